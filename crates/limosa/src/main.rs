//! `limosa`: live migration of virtual machines on OVN without a gap in the
//! network. The agent, the controller, and the verbs a person uses.

mod agent;
mod check;
mod cli;
mod controller;
mod lease;
mod metrics;
mod shutdown;
mod store;
mod view;

use std::io::IsTerminal;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args = cli::parse();
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_env("LIMOSA_LOG")
                .unwrap_or_else(|_| args.log_level().into()),
        )
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.map_err(anyhow::Error::from).and_then(|runtime| runtime.block_on(cli::run(args))) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("limosa: {error:#}");
            ExitCode::FAILURE
        }
    }
}
