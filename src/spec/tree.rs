//! A JSON text as a tree with positions, from which parts can be removed.
//!
//! Unlike serde_json's values, it keeps the order of keys, duplicate keys, and each element's
//! original index after other elements have been removed.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, Deserialize, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::{FdName, Segment, SpecPath};

/// Maximum depth of nesting, the same as serde_json's.
const DEPTH: usize = 128;

/// A value with its position.
#[derive(Clone, Debug)]
pub(super) struct Node<'a> {
    /// The offset of its first byte.
    pub(super) at: usize,
    pub(super) value: Value<'a>,
}

#[derive(Clone, Debug)]
pub(super) enum Value<'a> {
    /// The text of a string, number, boolean or null.
    Scalar(Cow<'a, [u8]>),
    /// The elements with their original indexes.
    Array(Vec<(usize, Node<'a>)>),
    Object(Vec<Member<'a>>),
}

/// An entry of an object.
#[derive(Clone, Debug)]
pub(super) struct Member<'a> {
    pub(super) key: String,
    /// The offset of its key.
    pub(super) at: usize,
    pub(super) node: Node<'a>,
}

/// The index of the entry for `key`: the last one with exactly this key, or else the last one that
/// names the same fd.
fn position(entries: &[Member<'_>], key: &str) -> Option<usize> {
    entries.iter().rposition(|entry| entry.key == key).or_else(|| position_of_fd(entries, key))
}

fn position_of_fd(entries: &[Member<'_>], key: &str) -> Option<usize> {
    let wanted: FdName = key.parse().ok()?;
    entries.iter().rposition(|entry| entry.key.parse() == Ok(wanted))
}

impl<'a> Node<'a> {
    /// Reads a text that serde_json accepts. Returns `None` if it is nested too deeply.
    pub(super) fn read(text: &'a [u8]) -> Option<Node<'a>> {
        Reader { text, at: 0 }.value(DEPTH)
    }

    /// A string that replaces the value at offset `at`.
    pub(super) fn string(text: &str, at: usize) -> Node<'a> {
        // Writing a string cannot fail.
        let text = serde_json::to_vec(text).unwrap_or_default();
        Node { at, value: Value::Scalar(text.into()) }
    }

    /// A value, given as JSON text, that replaces the value at offset `at`.
    pub(super) fn stub(text: &'static str, at: usize) -> Node<'a> {
        let read = Node::read(text.as_bytes()).map(|node| node.value);
        Node { at, value: read.unwrap_or(Value::Scalar(b"null".as_slice().into())) }
    }

    /// An object with one key.
    pub(super) fn object_of(key: &str, node: Node<'a>) -> Node<'a> {
        let entry = Member { key: key.to_owned(), at: node.at, node };
        Node { at: 0, value: Value::Object(vec![entry]) }
    }

    /// Assigns consecutive numbers to values instead of offsets, for a tree that was not read from a
    /// text: errors are sorted by them.
    pub(super) fn number(&mut self, next: &mut usize) {
        self.at = *next;
        *next += 1;
        match &mut self.value {
            Value::Scalar(_) => {}
            Value::Array(elements) => elements.iter_mut().for_each(|(_, node)| node.number(next)),
            Value::Object(entries) => {
                for entry in entries {
                    entry.at = *next;
                    entry.node.number(next);
                }
            }
        }
    }

    /// Appends the value as JSON.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        match &self.value {
            Value::Scalar(text) => out.extend_from_slice(text),
            Value::Array(elements) => {
                out.push(b'[');
                for (i, (_, node)) in elements.iter().enumerate() {
                    if i > 0 {
                        out.push(b',');
                    }
                    node.write(out);
                }
                out.push(b']');
            }
            Value::Object(entries) => {
                out.push(b'{');
                for (i, Member { key, node, .. }) in entries.iter().enumerate() {
                    if i > 0 {
                        out.push(b',');
                    }
                    // Writing a string cannot fail.
                    let _ = serde_json::to_writer(&mut *out, key);
                    out.push(b':');
                    node.write(out);
                }
                out.push(b'}');
            }
        }
    }

    /// The value at the end of `steps`, by the tree's present indexes.
    pub(super) fn at_mut(&mut self, steps: &[Segment]) -> Option<&mut Node<'a>> {
        let Some((first, rest)) = steps.split_first() else { return Some(self) };
        let child = match (&mut self.value, first) {
            (Value::Array(elements), Segment::Index(i)) => {
                elements.get_mut(*i).map(|(_, node)| node)
            }
            (Value::Object(entries), Segment::Key(key)) => {
                let i = position(entries, key)?;
                entries.get_mut(i).map(|entry| &mut entry.node)
            }
            _ => None,
        };
        child?.at_mut(rest)
    }

    /// Removes the value one step below; of duplicate keys, the last one.
    pub(super) fn remove(&mut self, segment: &Segment) {
        match (&mut self.value, segment) {
            (Value::Array(elements), Segment::Index(i)) if *i < elements.len() => {
                elements.remove(*i);
            }
            (Value::Object(entries), Segment::Key(key)) => {
                if let Some(i) = position(entries, key) {
                    entries.remove(i);
                }
            }
            _ => {}
        }
    }

    /// Sets the value of a key of an object. Returns whether the node is an object.
    pub(super) fn put(&mut self, key: &str, node: Node<'a>) -> bool {
        let Value::Object(entries) = &mut self.value else { return false };
        match position(entries, key).and_then(|i| entries.get_mut(i)) {
            Some(entry) => entry.node = node,
            None => entries.push(Member { key: key.to_owned(), at: node.at, node }),
        }
        true
    }

    /// The key, as written in the text, of the last entry of an object with this key or the same fd.
    pub(super) fn last_of(&self, key: &str) -> Option<String> {
        let Value::Object(entries) = &self.value else { return None };
        let exact = entries.iter().rposition(|entry| entry.key == key);
        let last = exact.max(position_of_fd(entries, key))?;
        entries.get(last).map(|entry| entry.key.clone())
    }

    /// Follows a path as far as it exists.
    ///
    /// Also finds a step below the nesting of an fd that paths omit (`fds[0].keep` for
    /// `fds[0][1].capture.keep`).
    pub(super) fn follow(&self, path: &[Segment]) -> Found<'_, 'a> {
        let place = SpecPath::root();
        let mut found = Found { place, steps: Vec::new(), key_at: self.at, node: self, rest: 0 };
        let in_fds = path.get(2) == Some(&Segment::Key("fds".into()));
        for (i, segment) in path.iter().enumerate() {
            let next = found.step(segment).or_else(|| {
                let shape = || found.step(&Segment::Index(1)).unwrap_or(found.clone());
                (in_fds && i >= 4).then(|| shape().step_into_only()?.step(segment)).flatten()
            });
            match next {
                Some(next) => found = next,
                None => {
                    found.rest = path.len() - i;
                    break;
                }
            }
        }
        found
    }
}

/// The last existing value on a path.
#[derive(Clone)]
pub(super) struct Found<'n, 'a> {
    /// The path in the text: original indexes, keys as written.
    pub(super) place: SpecPath,
    /// The path in the present tree.
    pub(super) steps: Vec<Segment>,
    /// The offset of the last key; for an element of an array, of the value.
    pub(super) key_at: usize,
    pub(super) node: &'n Node<'a>,
    /// The number of missing steps.
    pub(super) rest: usize,
}

impl Found<'_, '_> {
    /// One step further, if it exists.
    fn step(&self, segment: &Segment) -> Option<Self> {
        let (named, key_at, node) = match (&self.node.value, segment) {
            (Value::Array(elements), Segment::Index(i)) => {
                let (index, node) = elements.get(*i)?;
                (Segment::Index(*index), node.at, node)
            }
            (Value::Object(entries), Segment::Key(key)) => {
                let entry = entries.get(position(entries, key)?)?;
                (Segment::Key(entry.key.clone()), entry.at, &entry.node)
            }
            _ => return None,
        };
        let place = self.place.segments().iter().cloned().chain([named]).collect();
        let steps = self.steps.iter().chain([segment]).cloned().collect();
        Some(Found { place, steps, key_at, node, rest: 0 })
    }

    /// The value of an object's only key.
    fn step_into_only(&self) -> Option<Self> {
        match &self.node.value {
            Value::Object(entries) => match entries.as_slice() {
                [only] => self.step(&Segment::Key(only.key.clone())),
                _ => None,
            },
            _ => None,
        }
    }
}

/// From another format, without positions. Values that JSON cannot express are errors.
impl<'de> Deserialize<'de> for Node<'static> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        NodeVisitor { depth: DEPTH }.deserialize(deserializer)
    }
}

/// Deserializes a value with at most this depth of nesting.
#[derive(Clone, Copy)]
struct NodeVisitor {
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for NodeVisitor {
    type Value = Node<'static>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl NodeVisitor {
    fn scalar<E: de::Error>(value: impl serde::Serialize) -> Result<Node<'static>, E> {
        let text = serde_json::to_vec(&value).map_err(E::custom)?;
        Ok(Node { at: 0, value: Value::Scalar(text.into()) })
    }

    /// For the values inside: one level less.
    fn below<E: de::Error>(self) -> Result<Self, E> {
        let depth = self.depth.checked_sub(1).ok_or_else(|| {
            E::custom("nested too deeply; use fewer levels of arrays and objects")
        })?;
        Ok(NodeVisitor { depth })
    }
}

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node<'static>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("what JSON has too")
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Self::Value, E> {
        Self::scalar(value)
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Self::Value, E> {
        Self::scalar(value)
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Self::Value, E> {
        Self::scalar(value)
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Self::Value, E> {
        // JSON has no infinities and no NaN.
        if value.is_finite() {
            Self::scalar(value)
        } else {
            Err(E::custom("invalid number: not finite; use a finite one"))
        }
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Self::Value, E> {
        Self::scalar(value)
    }

    fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
        Self::scalar(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Self::Value, A::Error> {
        let (below, mut elements) = (self.below()?, Vec::new());
        while let Some(node) = array.next_element_seed(below)? {
            elements.push((elements.len(), node));
        }
        Ok(Node { at: 0, value: Value::Array(elements) })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (below, mut entries) = (self.below()?, Vec::new());
        while let Some(key) = map.next_key()? {
            entries.push(Member { key, at: 0, node: map.next_value_seed(below)? });
        }
        Ok(Node { at: 0, value: Value::Object(entries) })
    }
}

/// Reads a text that is known to be JSON. Does not check the grammar, but never reads beyond the end.
struct Reader<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn value(&mut self, depth: usize) -> Option<Node<'a>> {
        self.space();
        let at = self.at;
        let value =
            match self.peek()? {
                b'{' => Value::Object(self.list(b'}', |reader, _| {
                    let at = reader.at;
                    let key = serde_json::from_slice(reader.scalar()?).ok()?;
                    reader.space();
                    reader.take(b':')?;
                    Some(Member { key, at, node: reader.value(depth.checked_sub(1)?)? })
                })?),
                b'[' => Value::Array(self.list(b']', |reader, index| {
                    Some((index, reader.value(depth.checked_sub(1)?)?))
                })?),
                _ => Value::Scalar(self.scalar()?.into()),
            };
        Some(Node { at, value })
    }

    /// The elements between brackets, separated by commas.
    fn list<T>(
        &mut self,
        end: u8,
        mut item: impl FnMut(&mut Self, usize) -> Option<T>,
    ) -> Option<Vec<T>> {
        self.at += 1;
        let mut items = Vec::new();
        loop {
            self.space();
            if self.take(end).is_some() {
                return Some(items);
            }
            if !items.is_empty() {
                self.take(b',')?;
                self.space();
            }
            items.push(item(self, items.len())?);
        }
    }

    /// A string, with its quotes, or a word.
    fn scalar(&mut self) -> Option<&'a [u8]> {
        let start = self.at;
        if self.take(b'"').is_some() {
            loop {
                match self.peek()? {
                    b'\\' => self.at += 2,
                    b'"' => break,
                    _ => self.at += 1,
                }
            }
            self.at += 1;
        } else {
            while self.peek().is_some_and(|byte| !b" \t\r\n,:]}".contains(&byte)) {
                self.at += 1;
            }
        }
        self.text.get(start..self.at).filter(|text| !text.is_empty())
    }

    fn space(&mut self) {
        while self.peek().is_some_and(|byte| byte.is_ascii_whitespace()) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(key: &str) -> Segment {
        Segment::Key(key.into())
    }

    fn text(node: &Node<'_>) -> String {
        let mut out = Vec::new();
        node.write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn parts_are_found_and_taken_out() {
        let source = r#"{"a": [1, {"b": "x\"]"}, [ ]], "c" : -1e5, "a": null, "1": true}"#;
        let mut tree = Node::read(source.as_bytes()).unwrap();
        assert_eq!(text(&tree), r#"{"a":[1,{"b":"x\"]"},[]],"c":-1e5,"a":null,"1":true}"#);
        let found = tree.follow(&[key("c")]);
        assert_eq!((found.key_at, found.node.at, found.rest), (31, 37, 0));
        assert_eq!(tree.follow(&[key("stdout")]).place.to_string(), "1");
        // Of duplicate keys, the last one is removed.
        tree.remove(&key("a"));
        let steps = [key("a"), Segment::Index(1)];
        assert_eq!(tree.follow(&steps).node.at, 10);
        tree.at_mut(&steps[..1]).unwrap().remove(&Segment::Index(0));
        assert_eq!(text(&tree), r#"{"a":[{"b":"x\"]"},[]],"c":-1e5,"1":true}"#);
        // The present first element was the second one.
        let found = tree.follow(&[key("a"), Segment::Index(0), key("b"), key("none")]);
        assert_eq!((found.place.to_string().as_str(), found.rest), ("a[1].b", 1));
    }

    #[test]
    fn what_is_nested_too_deeply_is_not_read() {
        let nested = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(Node::read(nested(DEPTH).as_bytes()).is_some());
        assert!(Node::read(nested(100_000).as_bytes()).is_none());
    }

    proptest::proptest! {
        #[test]
        fn never_runs_past_the_end(text: Vec<u8>) {
            let _ = Node::read(&text);
        }

        #[test]
        fn whatever_is_json_is_read(text in r#"(\[|\{"a":|"\\\\"|1|,|\]|\}| ){0,12}"#) {
            if let Ok(value) = serde_json::from_str::<serde_json::Value>(&text) {
                let tree = Node::read(text.as_bytes()).unwrap();
                let mut out = Vec::new();
                tree.write(&mut out);
                proptest::prop_assert_eq!(serde_json::from_slice::<serde_json::Value>(&out).unwrap(), value);
            }
        }
    }
}
