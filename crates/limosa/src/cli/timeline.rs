//! `limosa timeline`: a migration, drawn.

use std::process::ExitCode;

use anyhow::Context;
use clap::Args as ClapArgs;

use super::args::StoreArgs;
use super::output::{OutputArgs, print};
use crate::store::Which;
use crate::view::timeline::Course;
use crate::view::timeline_svg::svg;

#[derive(Debug, ClapArgs)]
pub(super) struct TimelineArgs {
    /// The migration's name (`limosa status`)
    name: String,
    /// Draw a picture, to be redirected into a file
    #[arg(long, conflicts_with_all = ["output", "json"])]
    svg: bool,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    store: StoreArgs,
}

pub(super) async fn timeline(args: TimelineArgs) -> anyhow::Result<ExitCode> {
    let place = args.store.place();
    let name = place.full_name(&args.name).await?;
    let store = place.open(Which::One(name.clone())).await?;
    let migration = store.watch().borrow().migrations.get(&name).cloned();
    let migration =
        migration.with_context(|| format!("there is no migration {name}: `limosa status` lists them"))?;
    let course = Course::of(&migration);
    if args.svg {
        print(&svg(&course))?;
    } else {
        args.output.print(&course, || course.text())?;
    }
    Ok(ExitCode::SUCCESS)
}
