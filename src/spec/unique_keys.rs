//! Maps that reject duplicate keys.

use std::fmt;
use std::marker::PhantomData;

use indexmap::IndexMap;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// Reads a map in its order. Rejects duplicate keys, of which serde itself silently takes the last.
pub(super) fn unique_keys<'de, D, K, V>(deserializer: D) -> Result<IndexMap<K, V>, D::Error>
where
    D: Deserializer<'de>,
    K: Deserialize<'de> + std::hash::Hash + Eq + fmt::Debug,
    V: Deserialize<'de>,
{
    unique_keys_up_to(deserializer, None)
}

/// The error of a key that is given twice.
pub(super) fn given_twice(key: &impl fmt::Debug) -> String {
    format!("key {key:?} given twice; remove one of them")
}

/// Reads a map in its order, with at most `most` entries. Rejects duplicate keys.
pub(super) fn unique_keys_up_to<'de, D, K, V>(
    deserializer: D,
    most: Option<usize>,
) -> Result<IndexMap<K, V>, D::Error>
where
    D: Deserializer<'de>,
    K: Deserialize<'de> + std::hash::Hash + Eq + fmt::Debug,
    V: Deserialize<'de>,
{
    struct UniqueKeys<K, V>(Option<usize>, PhantomData<(K, V)>);
    impl<'de, K, V> Visitor<'de> for UniqueKeys<K, V>
    where
        K: Deserialize<'de> + std::hash::Hash + Eq + fmt::Debug,
        V: Deserialize<'de>,
    {
        type Value = IndexMap<K, V>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a map")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<IndexMap<K, V>, A::Error> {
            let mut entries = IndexMap::new();
            while let Some(key) = map.next_key()? {
                if let Some(most) = self.0.filter(|most| entries.len() == *most) {
                    let message = format!(
                        "more than {most} processes in one request: split it into several requests"
                    );
                    return Err(de::Error::custom(message));
                }
                if entries.contains_key(&key) {
                    return Err(de::Error::custom(given_twice(&key)));
                }
                entries.insert(key, map.next_value()?);
            }
            Ok(entries)
        }
    }
    deserializer.deserialize_map(UniqueKeys(most, PhantomData))
}
