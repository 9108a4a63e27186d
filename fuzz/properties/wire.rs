//! Messages of a scheduler.

use procstar::spec::from_msgpack;
use procstar::wire::outgoing::{MAX_FD_DATA, proc_fd_data_prefix, proc_unknown, request_error};
use procstar::wire::{Fd, Parsed, Request, StartOptions, parse};

/// A parsed request, written and read again, is the same request. An answer that quotes the input
/// is a valid message.
pub fn check(data: &[u8]) {
    match parse(data) {
        Parsed::NotAMessage(reason) => assert!(!reason.is_empty()),
        Parsed::Registered => whole(data),
        Parsed::Bad { err } => {
            whole(data);
            assert!(!err.is_empty());
            let answer = request_error(data, &err);
            // procstar's parser sees a message of an unknown type: only a scheduler gets this one.
            let Parsed::Bad { err } = parse(&answer) else { panic!("the answer is not a message") };
            assert!(err.contains("RequestError"), "{err}");
        }
        Parsed::Request(request) => {
            whole(data);
            same_again(&request);
        }
    }
}

/// Neither a prefix of a message nor a message with a suffix is a message.
fn whole(data: &[u8]) {
    for end in [0, 1, data.len() / 2, data.len() - 1] {
        assert!(matches!(parse(&data[..end]), Parsed::NotAMessage(_)), "the first {end} bytes");
    }
    let longer = [data, b"\xc0"].concat();
    assert!(matches!(parse(&longer), Parsed::NotAMessage(_)));
}

fn same_again(request: &Request<'_>) {
    let again = written(request);
    let Parsed::Request(read) = parse(&again) else { panic!("{request:?} cannot be read again") };
    assert_eq!(&read, request);
    match request {
        Request::Start { specs, options: StartOptions { all_or_nothing, idempotent } } => {
            let _ = from_msgpack(specs, *all_or_nothing, *idempotent);
        }
        Request::FdData { proc_id, fd, start, stop } => {
            let len = stop.unwrap_or(u64::MAX).saturating_sub(*start);
            match proc_fd_data_prefix(proc_id, fd, *start, None, len) {
                Ok(_) => assert!(len <= MAX_FD_DATA && start.checked_add(len).is_some()),
                Err(error) => assert!(!error.to_string().is_empty()),
            }
        }
        Request::Result { proc_id } | Request::Delete { proc_id } => {
            assert!(matches!(parse(&proc_unknown(proc_id)), Parsed::Bad { .. }), "whole");
        }
        Request::ProcidList | Request::Signal { .. } => {}
    }
}

/// The request, encoded as by a scheduler.
fn written(request: &Request<'_>) -> Vec<u8> {
    let mut fields: Vec<(&str, Vec<u8>)> = Vec::new();
    let kind = match request {
        Request::Start { specs, options } => {
            fields.push(("specs", specs.to_vec()));
            fields.push(("all_or_nothing", pack(options.all_or_nothing)));
            fields.push(("idempotent", pack(options.idempotent)));
            "ProcStartRequest"
        }
        Request::ProcidList => "ProcidListRequest",
        Request::Result { proc_id } => {
            fields.push(("proc_id", pack(proc_id)));
            "ProcResultRequest"
        }
        Request::Signal { proc_id, signum } => {
            fields.push(("proc_id", pack(proc_id)));
            fields.push(("signum", pack(signum)));
            "ProcSignalRequest"
        }
        Request::FdData { proc_id, fd, start, stop } => {
            fields.push(("proc_id", pack(proc_id)));
            fields.push((
                "fd",
                match fd {
                    Fd::Name(name) => pack(name),
                    Fd::Number(number) => pack(number),
                },
            ));
            fields.push(("start", pack(start)));
            fields.push(("stop", pack(stop)));
            "ProcFdDataRequest"
        }
        Request::Delete { proc_id } => {
            fields.push(("proc_id", pack(proc_id)));
            "ProcDeleteRequest"
        }
    };
    // The order of keys does not matter: here the type is last.
    let mut out = vec![0x80 | (fields.len() as u8 + 1)];
    for (key, value) in fields {
        out.extend(pack(key));
        out.extend(value);
    }
    out.extend(pack("type"));
    out.extend(pack(kind));
    out
}

fn pack<T: serde::Serialize>(value: T) -> Vec<u8> {
    rmp_serde::to_vec(&value).expect("plain values can be encoded")
}
