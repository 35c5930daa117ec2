//! `limosa`: live migration of virtual machines on OVN without a gap in the
//! network. The agent, the controller, and the verbs a person uses.

mod agent;
mod check;
mod cli;
mod controller;
mod lease;
mod logging;
mod metrics;
mod shutdown;
mod store;
mod traces;
mod view;

use std::process::ExitCode;

fn main() -> ExitCode {
    let args = cli::parse();
    let run = || {
        logging::init(args.log_level())?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(cli::run(args))
    };
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("limosa: {error:#}");
            ExitCode::FAILURE
        }
    }
}
