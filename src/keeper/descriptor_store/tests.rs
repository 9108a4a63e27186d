use std::os::fd::{AsRawFd, IntoRawFd};
use std::os::unix::net::UnixDatagram;

use super::*;
use crate::keeper::service_manager::tests::{received, service_manager};

fn fd() -> OwnedFd {
    tempfile::tempfile().unwrap().into()
}

/// A holding with a pidfd and a capture, whose index and writer are given.
fn holding(id: &str, capture: usize, writer: Option<i32>) -> HoldingFrame<Arc<OwnedFd>> {
    let writer = writer.map(|pid| (pid, Arc::new(fd())));
    HoldingFrame {
        id: id.into(),
        pidfd: Some(Arc::new(fd())),
        captures: vec![CaptureFrame { index: capture, reader: Arc::new(fd()), writer, file: None }],
    }
}

fn name(id: &str, role: Role) -> String {
    StoredName { process: ProcessKey::of(&id.into()), role }.to_string()
}

/// A service manager's socket, and a store with these names and processes.
fn store(names: &[String], processes: &[&str]) -> (UnixDatagram, DescriptorStore) {
    let dir = tempfile::tempdir().unwrap();
    let (manager, env) = service_manager(&dir.path().join("notify"));
    let notifier = Notifier::connect(&env).unwrap().unwrap();
    let ids: Vec<ProcId> = processes.iter().map(|id| (*id).into()).collect();
    (manager, DescriptorStore::new(notifier, 1 << 20, names, ids.iter()))
}

/// The messages that have arrived, without their descriptors and without those of a probe.
fn texts(manager: &UnixDatagram) -> Vec<String> {
    let texts = received(manager).into_iter().map(|(text, _)| text);
    texts.filter(|text| !text.contains(PROBE) && text != "BARRIER=1").collect()
}

#[test]
fn a_start_takes_the_stored_descriptors_and_leaves_the_others() {
    let of_one = [Role::Writer(1, 77), Role::Reader(1)];
    let of_three = [Role::File(3), Role::Reader(3)];
    let roles = [of_one[0], of_three[0], of_three[1], of_one[1], Role::Pidfd];
    let stored = roles.map(|role| (fd().into_raw_fd(), name("job", role)));
    let socket = fd();
    let not_open = (RawFd::MAX, name("job", Role::Reader(9)));
    let mut named = vec![(socket.as_raw_fd(), "web".to_owned()), not_open];
    named.extend(stored.clone());
    let mut inherited: Vec<RawFd> = stored.iter().map(|(fd, _)| *fd).collect();
    inherited.push(socket.as_raw_fd());
    let (mut taken, others) = StoredDescriptors::take_named(named, inherited);
    assert_eq!(others, [socket.as_raw_fd()]);
    assert_eq!(taken.names(), stored.each_ref().map(|(_, name)| name.clone()));
    assert!(taken.remove(&"other".into()).is_none());
    let Holding { pidfd, mut captures, .. } = taken.remove(&"job".into()).unwrap();
    captures.sort_by_key(|capture| capture.index);
    let [one, three] = captures.try_into().unwrap();
    let writer = one.writer.unwrap();
    let numbers = [writer.pidfd, three.file.unwrap(), three.reader, one.reader, pidfd.unwrap()];
    assert_eq!(numbers.map(|fd| fd.as_raw_fd()), stored.map(|(fd, _)| fd));
    assert_eq!((one.index, writer.pid, three.index), (1, 77, 3));
    assert!(three.writer.is_none() && one.file.is_none());
}

#[test]
fn each_descriptor_is_stored_once_under_its_name_and_removed_with_its_process() {
    let (manager, mut store) = store(&[], &[]);
    let job = holding("job", 1, Some(77));
    store.hold(&job);
    store.hold(&job);
    store.progress();
    let names = [Role::Pidfd, Role::Reader(1), Role::Writer(1, 77)].map(|role| name("job", role));
    assert_eq!(texts(&manager), names.each_ref().map(|name| storing(name)));
    assert_eq!(store.hand_over().len(), 3);
    store.release(&"other".into());
    store.release(&"job".into());
    store.release(&"job".into());
    store.progress();
    assert_eq!(texts(&manager), names.each_ref().map(|name| removal(name)));
    assert_eq!((store.count, store.name_bytes, store.hand_over().len()), (0, 0, 0));
}

#[test]
fn a_changed_holding_replaces_the_differing_descriptors() {
    let (manager, mut store) = store(&[], &[]);
    store.hold(&holding("job", 1, None));
    store.progress();
    texts(&manager);
    store.hold(&HoldingFrame { pidfd: None, ..holding("job", 2, None) });
    store.progress();
    let removed = [Role::Pidfd, Role::Reader(1)].map(|role| removal(&name("job", role)));
    let [pidfd, reader] = removed;
    assert_eq!(texts(&manager), [pidfd, reader, storing(&name("job", Role::Reader(2)))]);
}

#[test]
fn a_start_keeps_what_its_processes_need_and_removes_the_rest() {
    let names = ["job", "gone"].map(|id| name(id, Role::Pidfd));
    let unknown = "ps-0123456789ab-unknown".to_owned();
    let [kept, gone] = names.clone();
    let (manager, mut store) =
        store(&[kept.clone(), gone.clone(), unknown.clone()], &["job", "new"]);
    store.progress();
    assert_eq!(texts(&manager), [removal(&gone), removal(&unknown)]);
    assert_eq!(store.hand_over(), [kept]);
    store.hold(&HoldingFrame { captures: Vec::new(), ..holding("job", 0, None) });
    store.progress();
    assert_eq!(texts(&manager), [""; 0], "the store has it");
}

#[test]
fn a_store_that_keeps_the_probe_exists_and_one_that_drops_it_is_missing() {
    for (keeps, missing) in [(true, false), (false, true)] {
        let (manager, mut store) = store(&[], &[]);
        store.progress();
        let [(probe, canary), (barrier, answer)] = received(&manager).try_into().unwrap();
        assert_eq!((probe, barrier), (storing(PROBE), "BARRIER=1".to_owned()));
        let canary = keeps.then_some(canary);
        store.progress();
        assert_eq!((store.exists, store.missing), (false, false), "there is no answer yet");
        drop(answer);
        store.progress();
        assert_eq!((store.exists, store.missing), (keeps, missing));
        drop(canary);
        assert_eq!(received(&manager).len(), 1, "the probe is removed");
        store.hold(&holding("job", 0, None));
        store.progress();
        assert_eq!(texts(&manager).is_empty(), missing);
        assert_eq!(store.deadline().is_none(), missing, "what was added is probed later");
    }
}

#[test]
fn a_lack_of_room_does_not_count_as_a_missing_store() {
    let (manager, mut store) = store(&[name("job", Role::Pidfd)], &["job"]);
    store.progress();
    drop(received(&manager));
    store.progress();
    assert_eq!((store.full, store.missing, store.proven), (true, false, 2));
}

#[test]
fn names_never_exceed_what_a_start_can_receive() {
    let (_manager, mut store) = store(&[], &[]);
    let pidfd = Arc::new(fd());
    for n in 0..8000 {
        let id = format!("job {n}").into();
        store.hold(&HoldingFrame { id, pidfd: Some(Arc::clone(&pidfd)), captures: Vec::new() });
    }
    assert!(store.full);
    let names = store.stored.values().flat_map(|stored| &stored.roles).count();
    assert_eq!((names, names * 18), (store.count, store.name_bytes));
    assert!(store.name_bytes < MAX_NAMES);
}

#[test]
fn a_start_never_gets_more_descriptors_than_its_limit_of_open_files() {
    let (_manager, mut store) = store(&[], &[]);
    store.max_count = 3;
    store.hold(&holding("first", 0, None));
    assert!(!store.full);
    store.hold(&holding("second", 0, None));
    assert_eq!((store.count, store.full), (3, true));
    store.release(&"first".into());
    store.hold(&holding("third", 0, None));
    assert_eq!(store.count, 3);
}
