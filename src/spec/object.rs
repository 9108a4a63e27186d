//! Structs that are objects in JSON, and nothing else.
//!
//! What serde derives takes a struct's fields from an array too, in their order. No schema says so,
//! and a spec that is read that way is a mistake. Between programs of ours, in MessagePack, arrays
//! are what structs are written as.

use serde::de::{Deserializer, Visitor};
use serde::forward_to_deserialize_any;

/// Deserializes a struct from a map alone, and everything else like the inner deserializer.
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

/// Has structs that derive their forms with `#[serde(remote = "Self")]` be read from objects alone,
/// where the format is one for people.
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
