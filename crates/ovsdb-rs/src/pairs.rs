//! The pairs of a map, and how differences are merged into maps and sets.

use std::cmp::Ordering;

use crate::datum::Atom;

/// Pairs of key and value, by key. A database has very many maps of very few pairs: a sorted list takes a
/// quarter of the memory of a tree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pairs(Vec<(Atom, Atom)>);

impl Pairs {
    /// The value of a key.
    pub fn get(&self, key: &Atom) -> Option<&Atom> {
        let place = self.0.binary_search_by(|(known, _)| known.cmp(key)).ok()?;
        Some(&self.0.get(place)?.1)
    }

    /// The pairs, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&Atom, &Atom)> {
        self.0.iter().map(|(key, value)| (key, value))
    }

    /// The keys, in order.
    pub fn keys(&self) -> impl Iterator<Item = &Atom> {
        self.0.iter().map(|(key, _)| key)
    }

    /// The number of pairs.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Applies the difference from an old map to a new one (ovsdb-server(7) section 4.1.14).
    pub(crate) fn apply(&mut self, diff: Self) {
        let by_key = |old: &(Atom, Atom), new: &(Atom, Atom)| old.0.cmp(&new.0);
        // A pair that is there as it stands was only in the old map; any other is the new one's.
        merge(&mut self.0, diff.0, by_key, |old, new| (old != new).then_some(new));
    }
}

/// Of two pairs with the same key the later counts.
impl FromIterator<(Atom, Atom)> for Pairs {
    fn from_iter<I: IntoIterator<Item = (Atom, Atom)>>(pairs: I) -> Self {
        let mut pairs: Vec<_> = pairs.into_iter().collect();
        // Stable, so that backwards the last of a key is the first.
        pairs.reverse();
        pairs.sort_by(|(a, _), (b, _)| a.cmp(b));
        pairs.dedup_by(|(later, _), (earlier, _)| later == earlier);
        pairs.shrink_to_fit();
        Self(pairs)
    }
}

/// The symmetric difference of two sorted sets.
pub(crate) fn toggle(atoms: &mut Vec<Atom>, diff: Vec<Atom>) {
    merge(atoms, diff, Atom::cmp, |_, _| None);
}

/// Merges two sorted lists in one pass; `of_both` says what becomes of an element that is in both.
fn merge<T>(
    list: &mut Vec<T>,
    other: Vec<T>,
    compare: impl Fn(&T, &T) -> Ordering,
    of_both: impl Fn(T, T) -> Option<T>,
) {
    let mut merged = Vec::with_capacity(list.len() + other.len());
    let mut old = std::mem::take(list).into_iter().peekable();
    let mut other = other.into_iter().peekable();
    while let (Some(a), Some(b)) = (old.peek(), other.peek()) {
        match compare(a, b) {
            Ordering::Less => merged.extend(old.next()),
            Ordering::Greater => merged.extend(other.next()),
            Ordering::Equal => merged.extend(old.next().zip(other.next()).and_then(|(a, b)| of_both(a, b))),
        }
    }
    merged.extend(old);
    merged.extend(other);
    merged.shrink_to_fit();
    *list = merged;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(pairs: &[(&str, &str)]) -> Pairs {
        pairs.iter().map(|(key, value)| (Atom::from(*key), Atom::from(*value))).collect()
    }

    #[test]
    fn the_later_of_two_pairs_counts() {
        let pairs = pairs(&[("b", "1"), ("a", "2"), ("b", "3"), ("c", "4"), ("b", "5")]);
        assert_eq!(pairs.keys().filter_map(Atom::as_str).collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(pairs.get(&Atom::from("b")), Some(&Atom::from("5")));
        assert_eq!(pairs.get(&Atom::from("d")), None);
    }

    #[test]
    fn a_difference_adds_changes_and_removes() {
        let mut map = pairs(&[("a", "1"), ("b", "2"), ("c", "3")]);
        map.apply(pairs(&[("0", "new"), ("b", "changed"), ("c", "3"), ("d", "new")]));
        assert_eq!(map, pairs(&[("0", "new"), ("a", "1"), ("b", "changed"), ("d", "new")]));
        let mut set = vec![Atom::from(1), Atom::from(3)];
        toggle(&mut set, vec![Atom::from(0), Atom::from(3), Atom::from(4)]);
        assert_eq!(set, [0, 1, 4].map(Atom::from));
    }
}
