//! What the agent sends: whole messages, and the beginnings of those whose last value is streamed.
//!
//! The server drops the connection over any key that it does not know, so each function writes
//! exactly the keys of its message; `type` comes first.

use std::fmt;

use thiserror::Error;

use super::{
    encode::{bin_header, map, opt_str, str, strs, uint},
    info::{ConnInfo, ProcInfo},
    parse::Fd,
};

/// The most data that one answer can carry, in bytes: MessagePack's lengths have 32 bits. Answer a
/// longer range by its first part; `stop` reports its end to the scheduler.
pub const MAX_FD_DATA: u64 = u32::MAX as u64;

/// The agent's first message on a connection.
#[derive(Clone, Copy)]
pub struct Register<'a> {
    /// The connection.
    pub conn: &'a ConnInfo,
    /// The process.
    pub proc: &'a ProcInfo,
    /// All processes that the agent has.
    pub proc_ids: &'a [String],
    /// The secret that the server asks for; may be empty.
    pub access_token: &'a str,
    /// The name of how far the agent's shutdown has come.
    pub shutdown_state: &'a str,
}

/// Leaves out the token.
impl fmt::Debug for Register<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Register")
            .field("conn", &self.conn)
            .field("proc", &self.proc)
            .field("proc_ids", &self.proc_ids)
            .field("access_token", &"***")
            .field("shutdown_state", &self.shutdown_state)
            .finish()
    }
}

impl Register<'_> {
    /// The message.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = head("Register", 5);
        str(&mut out, "conn");
        self.conn(&mut out);
        str(&mut out, "proc");
        self.proc(&mut out);
        str(&mut out, "proc_ids");
        strs(&mut out, self.proc_ids);
        text(&mut out, "access_token", self.access_token);
        text(&mut out, "shutdown_state", self.shutdown_state);
        out
    }

    fn conn(&self, out: &mut Vec<u8>) {
        let ConnInfo { conn_id, group_id, restricted_exe } = self.conn;
        map(out, 3);
        text(out, "conn_id", conn_id);
        text(out, "group_id", group_id);
        str(out, "restricted_exe");
        opt_str(out, restricted_exe.as_deref());
    }

    fn proc(&self, out: &mut Vec<u8>) {
        let ProcInfo { pid, ppid, uid, euid, username, gid, egid, groupname, hostname } = self.proc;
        map(out, 9);
        for (key, id) in [("pid", pid), ("ppid", ppid), ("uid", uid), ("euid", euid)] {
            number(out, key, (*id).into());
        }
        text(out, "username", username);
        for (key, id) in [("gid", gid), ("egid", egid)] {
            number(out, key, (*id).into());
        }
        text(out, "groupname", groupname);
        text(out, "hostname", hostname);
    }
}

/// `ProcidList {proc_ids}`.
#[must_use]
pub fn procid_list<S: AsRef<str>>(proc_ids: &[S]) -> Vec<u8> {
    let mut out = head("ProcidList", 1);
    str(&mut out, "proc_ids");
    strs(&mut out, proc_ids);
    out
}

/// `ProcDelete {proc_id}`.
#[must_use]
pub fn proc_delete(proc_id: &str) -> Vec<u8> {
    let mut out = head("ProcDelete", 1);
    text(&mut out, "proc_id", proc_id);
    out
}

/// `ProcUnknown {proc_id}`.
#[must_use]
pub fn proc_unknown(proc_id: &str) -> Vec<u8> {
    let mut out = head("ProcUnknown", 1);
    text(&mut out, "proc_id", proc_id);
    out
}

/// `ShutDown {shutdown_state}`.
#[must_use]
pub fn shut_down(state: &str) -> Vec<u8> {
    let mut out = head("ShutDown", 1);
    text(&mut out, "shutdown_state", state);
    out
}

/// `RequestError {msg, err}`; `msg` is the request's bytes as they came, which must be one whole
/// MessagePack value (what [`parse()`](super::parse::parse) calls a message is).
#[must_use]
pub fn request_error(msg: &[u8], err: &str) -> Vec<u8> {
    let mut out = head("RequestError", 2);
    str(&mut out, "msg");
    out.extend_from_slice(msg);
    text(&mut out, "err", err);
    out
}

/// The beginning of `ProcResult {proc_id, res}`: the caller appends the result, one MessagePack
/// map.
#[must_use]
pub fn proc_result_prefix(proc_id: &str) -> Vec<u8> {
    let mut out = head("ProcResult", 2);
    text(&mut out, "proc_id", proc_id);
    str(&mut out, "res");
    out
}

/// A range of data that cannot be answered in one message.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum FdDataError {
    /// More than [`MAX_FD_DATA`].
    #[error("fd data of {0} bytes does not fit into a message")]
    TooLong(u64),
    /// The range goes beyond 64 bits.
    #[error("fd data of {len} bytes at {start} ends beyond the largest offset")]
    Overflow {
        /// Offset of the first byte.
        start: u64,
        /// Bytes.
        len: u64,
    },
}

/// The beginning of `ProcFdData {proc_id, fd, start, stop, encoding, data}`: the caller appends
/// `len` bytes of data. `fd` and `start` are as asked; `stop` is `start` + `len`; `encoding` is
/// `utf-8` or `None`.
///
/// # Errors
/// `len` does not fit; see [`MAX_FD_DATA`].
pub fn proc_fd_data_prefix(
    proc_id: &str,
    fd: &Fd,
    start: u64,
    encoding: Option<&str>,
    len: u64,
) -> Result<Vec<u8>, FdDataError> {
    let bin = u32::try_from(len).map_err(|_| FdDataError::TooLong(len))?;
    let stop = start.checked_add(len).ok_or(FdDataError::Overflow { start, len })?;
    let mut out = head("ProcFdData", 6);
    text(&mut out, "proc_id", proc_id);
    str(&mut out, "fd");
    match fd {
        Fd::Name(name) => str(&mut out, name),
        Fd::Number(number) => uint(&mut out, *number),
    }
    number(&mut out, "start", start);
    number(&mut out, "stop", stop);
    str(&mut out, "encoding");
    opt_str(&mut out, encoding);
    str(&mut out, "data");
    bin_header(&mut out, bin);
    Ok(out)
}

/// A message's map with `fields` keys to come behind `type`.
fn head(kind: &str, fields: u8) -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    map(&mut out, fields + 1);
    text(&mut out, "type", kind);
    out
}

fn text(out: &mut Vec<u8>, key: &str, value: &str) {
    str(out, key);
    str(out, value);
}

fn number(out: &mut Vec<u8>, key: &str, value: u64) {
    str(out, key);
    uint(out, value);
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn decoded(bytes: &[u8]) -> Value {
        rmp_serde::from_slice(bytes).unwrap()
    }

    fn register<'a>(conn: &'a ConnInfo, proc: &'a ProcInfo, ids: &'a [String]) -> Register<'a> {
        Register { conn, proc, proc_ids: ids, access_token: "s3cret", shutdown_state: "active" }
    }

    fn infos() -> (ConnInfo, ProcInfo) {
        let conn = ConnInfo {
            conn_id: "c".into(),
            group_id: "default".into(),
            restricted_exe: Some("/bin/true".into()),
        };
        let proc = ProcInfo {
            pid: 70_000,
            ppid: 1,
            uid: 1000,
            euid: 1000,
            username: "u".into(),
            gid: 100,
            egid: 100,
            groupname: "g".into(),
            hostname: "h".into(),
        };
        (conn, proc)
    }

    #[test]
    fn register_frozen() {
        let (mut conn, proc) = infos();
        let ids = ["a".to_owned(), "b".to_owned()];
        let expected = b"\x86\xa4type\xa8Register\
            \xa4conn\x83\xa7conn_id\xa1c\xa8group_id\xa7default\xaerestricted_exe\xa9/bin/true\
            \xa4proc\x89\xa3pid\xce\x00\x01\x11\x70\xa4ppid\x01\xa3uid\xcd\x03\xe8\
            \xa4euid\xcd\x03\xe8\xa8username\xa1u\xa3gid\x64\xa4egid\x64\xa9groupname\xa1g\
            \xa8hostname\xa1h\
            \xa8proc_ids\x92\xa1a\xa1b\xacaccess_token\xa6s3cret\
            \xaeshutdown_state\xa6active";
        assert_eq!(register(&conn, &proc, &ids).encode(), expected);
        conn.restricted_exe = None;
        let message = decoded(&register(&conn, &proc, &[]).encode());
        assert_eq!(
            message["conn"],
            json!({"conn_id": "c", "group_id": "default", "restricted_exe": null})
        );
        assert_eq!(message["proc_ids"], json!([]));
    }

    #[test]
    fn the_token_is_not_shown() {
        let (conn, proc) = infos();
        let shown = format!("{:?}", register(&conn, &proc, &[]));
        assert!(shown.contains("***") && !shown.contains("s3cret"), "{shown}");
    }

    #[test]
    fn short_messages_frozen() {
        assert_eq!(
            procid_list(&["a", "b"]),
            b"\x82\xa4type\xaaProcidList\xa8proc_ids\x92\xa1a\xa1b"
        );
        assert_eq!(procid_list::<&str>(&[]), b"\x82\xa4type\xaaProcidList\xa8proc_ids\x90");
        assert_eq!(proc_delete("a"), b"\x82\xa4type\xaaProcDelete\xa7proc_id\xa1a");
        assert_eq!(proc_unknown("a"), b"\x82\xa4type\xabProcUnknown\xa7proc_id\xa1a");
        for (state, tail) in
            [("active", &b"\xa6active"[..]), ("idling", b"\xa6idling"), ("done", b"\xa4done")]
        {
            let expected = [b"\x82\xa4type\xa8ShutDown\xaeshutdown_state", tail].concat();
            assert_eq!(shut_down(state), expected);
        }
    }

    #[test]
    fn a_refused_request_goes_back_byte_for_byte() {
        // An integer in an odd width, a string that is no UTF-8: neither is touched.
        let raw = b"\x82\xa4type\xa3Odd\xa1x\xcf\0\0\0\0\0\0\0\x05";
        let expected =
            [b"\x83\xa4type\xacRequestError\xa3msg", &raw[..], b"\xa3err\xa2no"].concat();
        assert_eq!(request_error(raw, "no"), expected);
        assert_eq!(
            decoded(&expected),
            json!({"type": "RequestError", "msg": {"type": "Odd", "x": 5}, "err": "no"})
        );
    }

    #[test]
    fn result_prefix_frozen() {
        let mut message = proc_result_prefix("a");
        assert_eq!(message, b"\x83\xa4type\xaaProcResult\xa7proc_id\xa1a\xa3res");
        message.push(0x80);
        assert_eq!(decoded(&message), json!({"type": "ProcResult", "proc_id": "a", "res": {}}));
    }

    #[test]
    fn fd_data_prefix_frozen() {
        let fd = Fd::Name("stdout".into());
        assert_eq!(
            proc_fd_data_prefix("a", &fd, 5, Some("utf-8"), 300).unwrap(),
            b"\x87\xa4type\xaaProcFdData\xa7proc_id\xa1a\xa2fd\xa6stdout\xa5start\x05\
              \xa4stop\xcd\x01\x31\xa8encoding\xa5utf-8\xa4data\xc5\x01\x2c"
        );
        assert_eq!(
            proc_fd_data_prefix("a", &Fd::Number(3), 0, None, 0).unwrap(),
            b"\x87\xa4type\xaaProcFdData\xa7proc_id\xa1a\xa2fd\x03\xa5start\x00\
              \xa4stop\x00\xa8encoding\xc0\xa4data\xc4\x00"
        );
    }

    #[test]
    fn fd_data_has_a_limit() {
        let fd = Fd::Number(1);
        assert!(proc_fd_data_prefix("a", &fd, 0, None, MAX_FD_DATA).is_ok());
        let len = MAX_FD_DATA + 1;
        assert_eq!(proc_fd_data_prefix("a", &fd, 0, None, len), Err(FdDataError::TooLong(len)));
        let start = u64::MAX;
        assert_eq!(
            proc_fd_data_prefix("a", &fd, start, None, 1),
            Err(FdDataError::Overflow { start, len: 1 })
        );
    }
}
