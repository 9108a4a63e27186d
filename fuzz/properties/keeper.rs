//! Messages between keeper and worker, the journal, and the state of an upgrade.

use procstar::keeper::format::{Decoder, ToKeeper, ToWorker, WorkerState, encode};
use procstar::keeper::format::{PassedState, ProcessEntry, UpgradeState};
use procstar::keeper::journal;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Input;

/// The first byte selects the format of the rest.
pub fn check(data: &[u8]) {
    let mut input = Input(data);
    match input.byte() % 4 {
        0 => stream::<ToKeeper>(input),
        1 => stream::<ToWorker>(input),
        2 => journal(input.0),
        _ => state(input.0),
    }
}

/// The messages do not depend on how the bytes are split, and encoded again they are the same.
fn stream<T: Serialize + DeserializeOwned>(mut input: Input<'_>) {
    let size = usize::from(input.byte()) + 1;
    let whole = taken::<T>(std::iter::once(input.0));
    for size in [1, size] {
        assert_eq!(taken::<T>(input.0.chunks(size)), whole, "in pieces of {size}");
    }
    let (bytes, _) = &whole;
    let (again, broken) = taken::<T>(std::iter::once(bytes.as_slice()));
    assert!(!broken, "encoded messages can be read");
    assert_eq!(&again, bytes);
}

/// The messages, encoded again, and whether an invalid message followed them.
fn taken<'a, T: Serialize + DeserializeOwned>(
    pieces: impl Iterator<Item = &'a [u8]>,
) -> (Vec<u8>, bool) {
    let mut decoder = Decoder::default();
    let mut out = Vec::new();
    for piece in pieces {
        decoder.push(piece);
        loop {
            match decoder.next_message::<T>() {
                Ok(Some(message)) => encode(&message, &mut out).expect("a message can be encoded"),
                Ok(None) => break,
                Err(_) => return (out, true),
            }
        }
    }
    (out, false)
}

/// A journal is read up to its first damaged record. The records, encoded again, are the same.
fn journal(bytes: &[u8]) {
    use std::io::Write;
    thread_local! {
        static FILE: tempfile::NamedTempFile = tempfile::NamedTempFile::new().expect("a temporary file");
    }
    FILE.with(|file| {
        file.as_file().set_len(0).expect("the file can be truncated");
        std::io::Seek::rewind(&mut file.as_file()).expect("the file can be rewound");
        file.as_file().write_all(bytes).expect("the file can be written");
        if let Ok((records, memory)) = journal::read_all(file.path()) {
            let mut ids: Vec<_> = records.iter().map(|record| record.id.clone()).collect();
            ids.sort_by(|a, b| a.as_str().cmp(b.as_str()));
            ids.dedup();
            assert_eq!(ids.len(), records.len(), "each process once");
            same::<Vec<ProcessEntry>>(&records);
            same::<WorkerState>(&memory);
        }
    });
}

/// The state of an upgrade is accepted completely or refused.
fn state(bytes: &[u8]) {
    match UpgradeState::from_bytes(bytes) {
        Ok(state) => {
            let named = rmp_serde::to_vec_named(&state).expect("a state can be encoded");
            let again = UpgradeState::from_bytes(&named).expect("an encoded state can be decoded");
            let encoded = rmp_serde::to_vec_named(&again).expect("a state can be encoded again");
            assert_eq!(encoded, named);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fn same<T: Serialize + DeserializeOwned>(value: &T) {
    let packed = rmp_serde::to_vec(value).expect("a value can be encoded");
    let again: T = rmp_serde::from_slice(&packed).expect("an encoded value can be decoded");
    assert_eq!(rmp_serde::to_vec(&again).expect("a value can be encoded again"), packed);
}
