//! `limosa abort` and `limosa return`: the ways back.

use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args as ClapArgs;
use limosa_protocol::object::{Migration, Want};
use limosa_protocol::{Phase, Step};

use super::args::StoreArgs;
use super::output::print;
use crate::store::{Key, Store, Which};

#[derive(Debug, ClapArgs)]
pub(super) struct AbortArgs {
    /// The migration's name (`limosa status`)
    name: String,
    #[command(flatten)]
    store: StoreArgs,
}

#[derive(Debug, ClapArgs)]
pub(super) struct ReturnArgs {
    /// The migration's name (`limosa status`)
    name: String,
    /// The guest runs on the source: nobody has to be asked
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    store: StoreArgs,
}

pub(super) async fn abort(args: AbortArgs) -> anyhow::Result<ExitCode> {
    let (store, name, migration) = open(&args.name, args.store).await?;
    let phase = migration.phase();
    let activated = migration.target().is_some_and(|target| target.has(Step::Activated));
    if phase.is_past_activation() || (activated && !phase.is_final()) {
        bail!(
            "{name} has come to phase {phase}: the guest runs on {}, there is no way back (`limosa return` if the hypervisor has resumed it on {})",
            migration.spec.target(),
            migration.spec.from
        );
    }
    if !phase.is_final() {
        store.set_want(&Key::of(&migration), Want::Abort).await?;
    }
    print(&format!("{name}: {}\n", what_abort_does(&migration)))?;
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn go_back(args: ReturnArgs) -> anyhow::Result<ExitCode> {
    let (store, name, migration) = open(&args.name, args.store).await?;
    let (phase, from) = (migration.phase(), &migration.spec.from);
    if phase.is_final() {
        bail!("{name} has ended ({phase}): migrate the port, if it is not where the guest is");
    }
    if !args.yes {
        bail!(
            "does the guest of {} run on {from}, and will it stay there? Then say so with --yes; where it runs on {}, this cuts it off",
            migration.spec.port,
            migration.spec.target()
        );
    }
    store.set_want(&Key::of(&migration), Want::Return).await?;
    print(&format!(
        "{name}: from phase {phase} back: {from}'s own flows carry the guest at once, then OVN binds the port to {from} alone\n"
    ))?;
    Ok(ExitCode::SUCCESS)
}

async fn open(name: &str, store: StoreArgs) -> anyhow::Result<(Box<dyn Store>, String, Migration)> {
    let place = store.place();
    let name = place.full_name(name).await?;
    let store = place.open(Which::One(name.clone())).await?;
    let migration = store.watch().borrow().migrations.get(&name).cloned();
    let migration =
        migration.with_context(|| format!("there is no migration {name}: `limosa status` lists them"))?;
    Ok((store, name, migration))
}

/// What follows from an abort in each phase that can be aborted.
fn what_abort_does(migration: &Migration) -> String {
    let spec = &migration.spec;
    let (port, from, to) = (&spec.port, &spec.from, spec.target());
    match migration.phase() {
        Phase::Pending => "nothing has been done yet; it will be refused".to_owned(),
        Phase::Pinning => format!("no flow stands yet; {port}'s options become what they were"),
        Phase::Arming => format!(
            "what stands of gate and mirror is taken away, then {port}'s options become what they were; unplug the guest's interface on {to}"
        ),
        Phase::Armed => format!(
            "the mirror on {from} and the gate on {to} are taken away, then {port}'s options become what they were; cancel the hypervisor's migration first: a guest that announces itself on {to} meanwhile stays there"
        ),
        Phase::RollingBack => format!("it is on its way back to {from} already"),
        phase => format!("it has ended ({phase}); nothing was done"),
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use limosa_protocol::object::Spec;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn every_phase_says_what_an_abort_does() {
        let spec = Spec::new("vm1", "a", Some("b".to_owned()));
        let mut migration = Migration::new("m".to_owned(), Uuid::nil(), spec, Timestamp::UNIX_EPOCH);
        let mut said = Vec::new();
        for phase in Phase::ALL.into_iter().filter(|phase| !phase.is_past_activation()) {
            migration.status.progress.phase = phase;
            said.push(what_abort_does(&migration));
        }
        said.dedup();
        assert_eq!(said.len(), 7, "{said:#?}");
    }
}
