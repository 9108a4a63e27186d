//! Structs that are read only from objects in JSON.
//!
//! The implementations that serde derives also accept an array of a struct's fields. In a spec, such an
//! array is a mistake, and the schema does not have it. Our own messages, in MessagePack, contain
//! structs as arrays.

use serde::de::{Deserializer, Visitor};
use serde::forward_to_deserialize_any;

/// Deserializes structs only from maps, and everything else like the inner deserializer.
pub(super) struct Object<D>(pub(super) D);

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Object<D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_any(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_map(visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

/// Implements serde for structs that derive their form with `#[serde(remote = "Self")]`: in
/// human-readable formats, they are read only from objects.
macro_rules! only_objects {
    ($($name:ident),*) => {$(
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                $name::serialize(self, serializer)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if deserializer.is_human_readable() {
                    $name::deserialize(crate::spec::object::Object(deserializer))
                } else {
                    $name::deserialize(deserializer)
                }
            }
        }
    )*};
}
pub(super) use only_objects;
