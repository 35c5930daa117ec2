//! How often each interesting thing has happened.

use std::collections::BTreeMap;
use std::fmt;

use limosa_protocol::Phase;

/// Counts by what happened, and in which phase of the migration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Coverage(BTreeMap<(&'static str, Option<Phase>), u64>);

impl Coverage {
    pub(crate) fn count(&mut self, what: &'static str, phase: Option<Phase>) {
        *self.0.entry((what, phase)).or_default() += 1;
    }

    /// Adds another schedule's counts.
    pub fn add(&mut self, other: &Self) {
        for (key, n) in &other.0 {
            *self.0.entry(*key).or_default() += n;
        }
    }

    /// How often it happened, in whichever phase.
    #[must_use]
    pub fn total(&self, what: &str) -> u64 {
        self.0.iter().filter(|((name, _), _)| *name == what).map(|(_, n)| n).sum()
    }
}

/// One line for each thing: its total, and how often in each phase.
impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut names: Vec<&str> = self.0.keys().map(|(name, _)| *name).collect();
        names.dedup();
        for name in names {
            write!(f, "{:>12}  {name}", self.total(name))?;
            let mut by_phase = self.0.iter().filter(|((n, _), _)| *n == name).peekable();
            if by_phase.peek().is_some_and(|((_, phase), _)| phase.is_some()) {
                let parts = by_phase.filter_map(|((_, phase), n)| Some(format!("{} {n}", (*phase)?)));
                write!(f, "  ({})", parts.collect::<Vec<_>>().join(", "))?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
