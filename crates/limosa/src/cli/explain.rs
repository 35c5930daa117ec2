//! `limosa explain`: what a cookie says.

use std::fmt::Write as _;
use std::process::ExitCode;

use anyhow::{Context, ensure};
use clap::Args as ClapArgs;
use limosa_protocol::{Cookie, Migration, Phase};
use serde::Serialize;

use super::args::StoreArgs;
use super::output::OutputArgs;
use crate::store::{Place, Which};
use crate::view::audit::Decoded;
use crate::view::flows_text::role_name;

#[derive(Debug, ClapArgs)]
pub(super) struct ExplainArgs {
    /// A cookie as `ovs-ofctl dump-flows` prints it (0x4c494d4f…), or a whole line of it
    #[arg(required = true)]
    cookie: Vec<String>,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    store: StoreArgs,
}

/// What is known of a cookie of ours.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Explained {
    cookie: String,
    /// The migration's number.
    number: u32,
    #[serde(flatten)]
    meaning: Option<Decoded>,
    #[serde(skip_serializing_if = "Option::is_none")]
    table: Option<&'static str>,
    /// The migration of this number, if a store was there to ask and has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    migration: Option<Named>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Named {
    name: String,
    port: String,
    from: String,
    to: Option<String>,
    phase: Phase,
}

pub(super) async fn explain(args: ExplainArgs) -> anyhow::Result<ExitCode> {
    let cookie = parse(&args.cookie.join(" "))?;
    ensure!(
        Cookie::is_ours(cookie),
        "{cookie:#x} is no cookie of ours, which begin with 0x4c494d4f; OVN's are the first 32 bits of a southbound row's UUID (`ovn-detrace`)"
    );
    let number = Cookie::migration_of(cookie);
    let explained = Explained {
        cookie: format!("{cookie:#x}"),
        number,
        meaning: Decoded::of(cookie),
        table: Cookie::decode(cookie).map(|cookie| cookie.purpose.meaning().table),
        migration: find(args.store.place(), number).await,
    };
    args.output.print(&explained, || text(&explained))?;
    Ok(if explained.meaning.is_some() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The number after `cookie=`, or the text itself; a mask behind it is passed over.
fn parse(text: &str) -> anyhow::Result<u64> {
    let number = text.split_once("cookie=").map_or(text, |(_, rest)| rest).trim_start();
    let number = number.split([',', '/', ' ']).next().unwrap_or_default();
    let parsed = match number.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => number.parse().or_else(|_| u64::from_str_radix(number, 16)),
    };
    parsed.with_context(|| format!("{number:?} is no cookie: give it as 0x and up to 16 hexadecimal digits"))
}

/// Whose number it is. The cookie says what the flow does also where nobody can be asked.
async fn find(place: Place, number: u32) -> Option<Named> {
    let store = place.open(Which::All).await.ok()?;
    let snapshot = store.watch().borrow().clone();
    let is_it = |migration: &&Migration| migration.status.progress.number == number;
    // A number is free again once its migration has ended.
    let found = snapshot.migrations.values().filter(is_it).min_by_key(|m| m.phase().is_final())?;
    let spec = &found.spec;
    Some(Named {
        name: found.full_name(),
        port: spec.port.clone(),
        from: spec.from.clone(),
        to: spec.to.clone(),
        phase: found.phase(),
    })
}

fn text(explained: &Explained) -> String {
    let Explained { cookie, number, meaning, table, migration } = explained;
    let mut text = match (meaning, table) {
        (Some(Decoded { purpose, of, what, why }), Some(table)) => format!(
            "{cookie}: {purpose}, on {} of migration {number}, in table {table}\n  what  {what}\n  why   {why}\n",
            role_name(*of)
        ),
        _ => format!(
            "{cookie}: of migration {number}; a purpose that this version does not know: a newer one has written it\n"
        ),
    };
    if let Some(Named { name, port, from, to, phase }) = migration {
        let to = to.as_deref().unwrap_or("a target not known yet");
        let _ = writeln!(text, "  of    {name}: {port} from {from} to {to}, {phase}");
    }
    text
}

#[cfg(test)]
mod tests {
    use limosa_protocol::{Purpose, Role};

    use super::*;

    #[test]
    fn cookies_as_people_have_them() {
        for text in [
            "0x4c494d4f00002a83",
            "4c494d4f00002a83",
            "5497009821880167043",
            "0x4c494d4f00002a83/0xffffffffffffffff",
            " cookie=0x4c494d4f00002a83, duration=3s, table=0, priority=1100,in_port=4 actions=drop",
        ] {
            assert_eq!(parse(text).unwrap(), 0x4c49_4d4f_0000_2a83, "{text}");
        }
        assert!(parse("limosa").is_err());
        assert!(parse("").is_err());
    }

    #[test]
    fn every_cookie_is_explained() {
        for purpose in Purpose::ALL {
            let cookie = Cookie { migration: 0x2a, role: Role::Target, purpose };
            let meaning = Decoded::of(cookie.encode()).unwrap();
            let table = Some(purpose.meaning().table);
            let explained = Explained {
                cookie: cookie.to_string(),
                number: 0x2a,
                meaning: Some(meaning),
                table,
                migration: None,
            };
            let text = text(&explained);
            assert!(text.contains(purpose.label()) && text.contains("the target of migration 42"), "{text}");
        }
    }
}
