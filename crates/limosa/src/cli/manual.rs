//! What is made from the command line itself: completions and manual pages.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args as ClapArgs, CommandFactory};
use clap_complete::Shell;

use super::output::print;

#[derive(Debug, ClapArgs)]
pub(super) struct CompletionsArgs {
    /// Which shell; bash: `source <(limosa completions bash)`
    shell: Shell,
}

#[derive(Debug, ClapArgs)]
pub(super) struct ManArgs {
    /// Write limosa.1 and a page for each verb here (`man -l DIR/limosa.1`)
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub(super) fn completions(args: &CompletionsArgs) -> anyhow::Result<ExitCode> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut super::Args::command(), "limosa", &mut text);
    print(&String::from_utf8(text)?)?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn man(args: &ManArgs) -> anyhow::Result<ExitCode> {
    let command = super::Args::command().name("limosa");
    match &args.dir {
        Some(dir) => {
            let failed = || format!("cannot write manual pages to {}", dir.display());
            std::fs::create_dir_all(dir).with_context(failed)?;
            clap_mangen::generate_to(command, dir).with_context(failed)?;
        }
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(command).render(&mut page)?;
            print(&String::from_utf8(page)?)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn every_shell_and_every_verb() {
        for shell in Shell::value_variants() {
            let mut text = Vec::new();
            clap_complete::generate(*shell, &mut crate::cli::Args::command(), "limosa", &mut text);
            let text = String::from_utf8(text).unwrap();
            assert!(text.contains("timeline") && text.contains("ovs-rundir"), "{shell}");
        }
        let dir = tempfile::tempdir().unwrap();
        man(&ManArgs { dir: Some(dir.path().join("man")) }).unwrap();
        for verb in crate::cli::Args::command().get_subcommands() {
            let page = dir.path().join("man").join(format!("limosa-{}.1", verb.get_name()));
            assert!(page.is_file(), "{}", page.display());
        }
    }
}
