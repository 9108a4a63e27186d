//! A JSON text as a tree that knows where everything stands, and of which parts can be taken out.
//!
//! Unlike serde_json's own values it keeps the order of keys, keys that are given twice, and each
//! element's index in the text, also after others have been taken out.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, Deserialize, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::{FdName, Segment, SpecPath};

/// How deep a text may be nested; as deep as serde_json reads.
const DEPTH: usize = 128;

/// A value, and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Node<'a> {
    /// The offset of its first byte.
    pub(super) at: usize,
    pub(super) value: Value<'a>,
}

#[derive(Clone, Debug)]
pub(super) enum Value<'a> {
    /// Anything but the others, as it is written.
    Scalar(Cow<'a, [u8]>),
    /// Elements with their indexes in the text.
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

/// Which of an object's entries a key means: the last one of that very key, else the last one that
/// names the same fd.
fn position(entries: &[Member<'_>], key: &str) -> Option<usize> {
    entries.iter().rposition(|entry| entry.key == key).or_else(|| position_of_fd(entries, key))
}

fn position_of_fd(entries: &[Member<'_>], key: &str) -> Option<usize> {
    let wanted: FdName = key.parse().ok()?;
    entries.iter().rposition(|entry| entry.key.parse() == Ok(wanted))
}

impl<'a> Node<'a> {
    /// Reads a text that serde_json accepts; none for one that is nested too deeply.
    pub(super) fn read(text: &'a [u8]) -> Option<Node<'a>> {
        Reader { text, at: 0 }.value(DEPTH)
    }

    /// A string of ours, in place of what stands at `at`.
    pub(super) fn string(text: &str, at: usize) -> Node<'a> {
        // A string can be written.
        let text = serde_json::to_vec(text).unwrap_or_default();
        Node { at, value: Value::Scalar(text.into()) }
    }

    /// The same with any value.
    pub(super) fn stub(text: &'static str, at: usize) -> Node<'a> {
        let read = Node::read(text.as_bytes()).map(|node| node.value);
        Node { at, value: read.unwrap_or(Value::Scalar(b"null".as_slice().into())) }
    }

    /// An object with one key.
    pub(super) fn object_of(key: &str, node: Node<'a>) -> Node<'a> {
        let entry = Member { key: key.to_owned(), at: node.at, node };
        Node { at: 0, value: Value::Object(vec![entry]) }
    }

    /// Gives each value the offset at which it would stand if only values counted: a text that
    /// there never was has an order all the same.
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

    /// Appends it as a text.
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
                    // A string can be written.
                    let _ = serde_json::to_writer(&mut *out, key);
                    out.push(b':');
                    node.write(out);
                }
                out.push(b'}');
            }
        }
    }

    /// The value that steps lead to, by the tree as it is now.
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

    /// Takes out the value one step below. Of keys that are given twice it is the last.
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

    /// Puts a value under a key of an object, in place of what is there; false for anything else.
    pub(super) fn put(&mut self, key: &str, node: Node<'a>) -> bool {
        let Value::Object(entries) = &mut self.value else { return false };
        match position(entries, key).and_then(|i| entries.get_mut(i)) {
            Some(entry) => entry.node = node,
            None => entries.push(Member { key: key.to_owned(), at: node.at, node }),
        }
        true
    }

    /// The key, as written, of the last entry of an object that is called `key` or names the same
    /// fd.
    pub(super) fn last_of(&self, key: &str) -> Option<String> {
        let Value::Object(entries) = &self.value else { return None };
        let exact = entries.iter().rposition(|entry| entry.key == key);
        let last = exact.max(position_of_fd(entries, key))?;
        entries.get(last).map(|entry| entry.key.clone())
    }

    /// Follows a path as far as it leads.
    ///
    /// A step that is not there, but is hidden by the shape of an fd (`fds[0].limit` for
    /// `fds[0][1].capture.limit`), is found.
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

/// What a path has led to.
#[derive(Clone)]
pub(super) struct Found<'n, 'a> {
    /// By the text: indexes are those of the text, keys as written.
    pub(super) place: SpecPath,
    /// By the tree as it is now.
    pub(super) steps: Vec<Segment>,
    /// The offset of the last step's key; of the value, for an element.
    pub(super) key_at: usize,
    pub(super) node: &'n Node<'a>,
    /// How many steps of the path are not there.
    pub(super) rest: usize,
}

impl Found<'_, '_> {
    /// One step on, if it is there.
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

    /// Into the value of an object's only key.
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

/// From another format, as far as it could be JSON; nothing of it has a place in a text.
impl<'de> Deserialize<'de> for Node<'static> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        NodeVisitor { depth: DEPTH }.deserialize(deserializer)
    }
}

/// Makes a value that may be nested as deep as this.
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

    /// One of what is within.
    fn below<E: de::Error>(self) -> Result<Self, E> {
        let depth = self.depth.checked_sub(1).ok_or_else(|| E::custom("nested too deeply"))?;
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
        // JSON has no numbers for the others.
        if value.is_finite() { Self::scalar(value) } else { Err(E::custom("no finite number")) }
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

/// Reads a text that is known to be JSON: the grammar is not checked, but nothing runs past the
/// end.
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

    /// What stands between brackets, separated by commas.
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
        // Of two the last.
        tree.remove(&key("a"));
        let steps = [key("a"), Segment::Index(1)];
        assert_eq!(tree.follow(&steps).node.at, 10);
        tree.at_mut(&steps[..1]).unwrap().remove(&Segment::Index(0));
        assert_eq!(text(&tree), r#"{"a":[{"b":"x\"]"},[]],"c":-1e5,"1":true}"#);
        // What is now the first element was the second.
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
