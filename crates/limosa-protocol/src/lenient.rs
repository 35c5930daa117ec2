//! Reading what a newer version may have written: what is unknown is left out
//! where the rest makes sense without it.

use std::collections::BTreeMap;

use serde::de::value::StringDeserializer;
use serde::de::{DeserializeOwned, IntoDeserializer};
use serde::{Deserialize, Deserializer};

/// A map without the entries whose keys are unknown.
pub(crate) fn keys<'de, D, K, V>(deserializer: D) -> Result<BTreeMap<K, V>, D::Error>
where
    D: Deserializer<'de>,
    K: Deserialize<'de> + Ord,
    V: Deserialize<'de>,
{
    let all = BTreeMap::<String, V>::deserialize(deserializer)?;
    let known = |key: String| {
        let key: StringDeserializer<D::Error> = key.into_deserializer();
        K::deserialize(key).ok()
    };
    Ok(all.into_iter().filter_map(|(key, value)| Some((known(key)?, value))).collect())
}

/// A list without the items that are unknown.
pub(crate) fn items<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned,
{
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Item<T> {
        Known(T),
        Unknown(serde::de::IgnoredAny),
    }
    let all = Vec::<Item<T>>::deserialize(deserializer)?;
    let known = |item| match item {
        Item::Known(item) => Some(item),
        Item::Unknown(_) => None,
    };
    Ok(all.into_iter().filter_map(known).collect())
}
