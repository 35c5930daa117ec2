//! `limosa migrate` and `limosa wait`.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args as ClapArgs;
use jiff::Timestamp;
use limosa_protocol::object::{ConditionType, Migration, Spec, to_microseconds};
use limosa_protocol::{MacAddr, Phase};
use uuid::Uuid;

use super::args::{StoreArgs, parse_mac, parse_phase, parse_seconds};
use super::output::OutputArgs;
use super::status::print_one;
use crate::store::{Store, Which};

#[derive(Debug, ClapArgs)]
pub(super) struct MigrateArgs {
    /// The logical switch port (`ovn-nbctl show`)
    port: String,
    /// The chassis that the guest leaves
    #[arg(long, value_name = "CHASSIS")]
    from: String,
    /// The chassis that the guest goes to
    #[arg(long, value_name = "CHASSIS")]
    to: String,
    /// The guest's Ethernet address [default: the first of the port's addresses]
    #[arg(long, value_parser = parse_mac)]
    mac: Option<MacAddr>,
    /// The object's name [default: made from the port's]
    #[arg(long)]
    name: Option<String>,
    /// Wait until a phase is reached; `completed` if none is named
    #[arg(long, value_name = "PHASE", num_args = 0..=1, require_equals = true, default_missing_value = "completed", value_parser = parse_phase)]
    wait: Option<Phase>,
    #[command(flatten)]
    waiting: WaitingArgs,
}

#[derive(Debug, ClapArgs)]
pub(super) struct WaitArgs {
    /// The migration's name (`limosa status`)
    name: String,
    /// The phase to wait for
    #[arg(long = "for", value_name = "PHASE", default_value = "completed", value_parser = parse_phase)]
    phase: Phase,
    #[command(flatten)]
    waiting: WaitingArgs,
}

/// What every verb takes that waits for a migration and shows it.
#[derive(Debug, ClapArgs)]
struct WaitingArgs {
    /// Give up waiting after so many seconds; the migration itself goes on
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds)]
    timeout: Option<Duration>,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    store: StoreArgs,
}

pub(super) async fn migrate(args: MigrateArgs) -> anyhow::Result<ExitCode> {
    let place = args.waiting.store.clone().place();
    let uid = Uuid::new_v4();
    let name = args.name.unwrap_or_else(|| default_name(&args.port, uid));
    let full_name = place.full_name(&name).await?;
    let store = place.open_or_create(Which::One(full_name.clone())).await?;
    let spec = Spec { mac: args.mac, ..Spec::new(args.port, args.from, Some(args.to)) };
    let mut migration = Migration::new(name, uid, spec, to_microseconds(Timestamp::now()));
    migration.metadata.namespace = full_name.split_once('/').map(|(namespace, _)| namespace.to_owned());
    let migration = store.create(migration).await?;
    match args.wait {
        Some(phase) => wait_for(store.as_ref(), &full_name, phase, &args.waiting).await,
        None => {
            print_one(&migration, &args.waiting.output)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

pub(super) async fn wait(args: WaitArgs) -> anyhow::Result<ExitCode> {
    let place = args.waiting.store.clone().place();
    let name = place.full_name(&args.name).await?;
    let store = place.open(Which::One(name.clone())).await?;
    wait_for(store.as_ref(), &name, args.phase, &args.waiting).await
}

async fn wait_for(
    store: &dyn Store,
    name: &str,
    phase: Phase,
    waiting: &WaitingArgs,
) -> anyhow::Result<ExitCode> {
    let mut watch = store.watch();
    if !watch.borrow().migrations.contains_key(name) {
        // An object just created may not have been noticed yet.
        let appeared =
            tokio::time::timeout(Duration::from_secs(1), watch.wait_for(|s| s.migrations.contains_key(name)));
        if appeared.await.is_err() {
            bail!("there is no migration {name}: `limosa status` lists them");
        }
    }
    let over = watch.wait_for(|snapshot| {
        snapshot.migrations.get(name).is_none_or(|m| m.phase().is_final() || m.phase().has_reached(phase))
    });
    let timed_out = match waiting.timeout {
        Some(limit) => match tokio::time::timeout(limit, over).await {
            Ok(result) => result.map(|_| false)?,
            Err(_) => true,
        },
        None => over.await.map(|_| false)?,
    };
    let migration = watch.borrow().migrations.get(name).cloned();
    let migration = migration.with_context(|| format!("migration {name} has been deleted"))?;
    print_one(&migration, &waiting.output)?;
    if migration.phase().has_reached(phase) {
        return Ok(ExitCode::SUCCESS);
    }
    let condition = if timed_out { ConditionType::Progressing } else { ConditionType::Succeeded };
    let why = migration.status.progress.condition(condition);
    let why = why.map_or_else(
        || "no controller has looked at it: is `limosa controller` running on the same store?".to_owned(),
        |why| why.message.clone(),
    );
    let how = if timed_out { "is still in phase" } else { "ended in phase" };
    eprintln!("limosa: {name} {how} {}: {why}", migration.phase());
    Ok(ExitCode::FAILURE)
}

/// A DNS label that begins with what the port's name can give.
fn default_name(port: &str, uid: Uuid) -> String {
    let label = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let port: String = port.chars().map(label).take(50).collect();
    let uid = uid.simple().to_string();
    match port.trim_matches('-') {
        "" => format!("port-{}", &uid[..6]),
        port => format!("{port}-{}", &uid[..6]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_labels_whatever_the_port_is_called() {
        let uid = Uuid::from_u128(0x1234_5678_9abc_def0_1234_5678_9abc_def0);
        assert_eq!(default_name("vm1", uid), "vm1-123456");
        assert_eq!(default_name("ns/VM_1.eth0", uid), "ns-vm-1-eth0-123456");
        assert_eq!(default_name("///", uid), "port-123456");
        assert!(default_name(&"x".repeat(500), uid).len() <= 63);
    }
}
