//! Orders to [proxies](super::proxy): which there are, who carries them out, and what came of them.
//!
//! Whoever has planned a child puts an order into a pipe and goes on. A proxy that is free takes it, clones the child, and puts the order's
//! number into another pipe, which the engine reads. So nobody waits for anybody, a proxy that is held by a child's set-up holds nothing but
//! that child, and no lock is taken by one, which can be killed at any moment.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::proxy::{self, Left, Message, Order};
use super::{Child, MAX_THREADS, PERMANENT_THREADS, Spawned, outcome};
use crate::engine::faults::{self, Call};
use crate::engine::plan::LaunchPlan;
use crate::engine::sys;
use crate::mem::text_pages::Floor;

/// As many proxies can be held by set-ups at once.
const MAX_PROXIES: usize = MAX_THREADS;
/// So many proxies in turn may be killed before they have done anything, until no more are made.
const PATIENCE: usize = 3;
/// A guardian does little more than wait.
const GUARDIAN_STACK: usize = 64 * 1024;

/// The orders, the proxies, and the pipes between.
pub(super) struct Orders {
    books: Mutex<Books>,
    /// From those who plan to proxies. Writing does not wait.
    orders: Pipe,
    /// From proxies to the engine. Reading does not wait.
    done: Pipe,
}

struct Pipe {
    reader: OwnedFd,
    writer: OwnedFd,
}

#[derive(Default)]
struct Books {
    /// What is ordered, and is not told to the engine.
    ordered: HashMap<u64, Box<Ordered>>,
    /// The numbers of those that proxies have not begun, and of some that they have: they begin them in turn.
    untaken: Vec<u64>,
    last_number: u64,
    /// The threads that make proxies and outlive them.
    guardians: Vec<JoinHandle<()>>,
    /// How many of them there are, and how many of their proxies are dismissed.
    proxies: usize,
    dismissed: usize,
    /// No proxy takes the place of one that ends.
    closing: bool,
}

/// A process of which the child is ordered, with what is made beside it.
pub(super) struct Ordered {
    pub(super) serial: u64,
    pub(super) order: Order,
    pub(super) filters: Vec<(usize, Child)>,
    pub(super) not_made: Vec<usize>,
    floor: Floor,
}

impl Ordered {
    pub(super) fn new(
        serial: u64,
        plan: LaunchPlan,
        filters: Vec<(usize, Child)>,
        not_made: Vec<usize>,
        floor: Floor,
    ) -> Box<Ordered> {
        let order = Order::new(plan);
        Box::new(Ordered { serial, order, filters, not_made, floor })
    }

    /// What became of it.
    fn spawned(self) -> Spawned {
        let cloned = match self.order.child.load(Ordering::Acquire) {
            pid if pid > 0 => Child::of_proxy(pid, &self.order.plan),
            errno => Err(io::Error::from_raw_os_error(-errno)),
        };
        let made = outcome(self.serial, &self.order.plan, cloned, self.filters, self.not_made);
        Spawned { floor: self.floor.executed(), ..made }
    }

    /// It could not even be ordered.
    pub(super) fn failed(self, error: io::Error) -> Spawned {
        outcome(self.serial, &self.order.plan, Err(error), self.filters, self.not_made)
    }
}

impl Orders {
    /// Without any proxy: most programs need none.
    ///
    /// # Errors
    /// The OS error of making pipes.
    pub(super) fn new() -> io::Result<Self> {
        let pipe = || sys::pipe().map(|(reader, writer)| Pipe { reader, writer });
        let (orders, done) = (pipe()?, pipe()?);
        sys::set_nonblocking(&orders.writer)?;
        sys::set_nonblocking(&done.reader)?;
        Ok(Orders { books: Mutex::default(), orders, done })
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        // Nothing that holds the lock can leave the books half changed.
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Orders a child.
    ///
    /// # Errors
    /// The OS error where there is no proxy, and none can be had; and what was ordered.
    pub(super) fn order(
        self: &Arc<Self>,
        ordered: Box<Ordered>,
    ) -> Result<(), (Box<Ordered>, io::Error)> {
        if let Err(error) = faults::pass(Call::Clone) {
            return Err((ordered, error));
        }
        loop {
            let mut books = self.books();
            if books.closing {
                return Ok(());
            }
            // One for each child that is being made, up to a number: what waits longer gets more by `relieve`.
            if books.ordered.len() >= books.staying()
                && books.staying() < PERMANENT_THREADS
                && let Err(error) = self.add_proxy(&mut books)
                && books.staying() == 0
            {
                return Err((ordered, error));
            }
            let number = books.last_number + 1;
            match self.send(Message::of(&ordered.order, number)) {
                Ok(()) => {
                    books.last_number = number;
                    books.untaken.push(number);
                    // Boxed: it stays where it is.
                    books.ordered.insert(number, ordered);
                    return Ok(());
                }
                Err(Errno::EAGAIN) => {}
                Err(error) => return Err((ordered, error.into())),
            }
            drop(books);
            self.wait_for_room();
        }
    }

    /// Puts a message into the pipe, or nothing. What is in it is read by one proxy only.
    fn send(&self, message: Message) -> Result<(), Errno> {
        nix::unistd::write(&self.orders.writer, &message.to_bytes()).map(drop)
    }

    /// How many orders no proxy has begun.
    pub(super) fn waiting(&self) -> usize {
        self.books().waiting()
    }

    /// Makes a proxy for every order that waits, where there are not as many already: all are held by a child's set-up.
    pub(super) fn relieve(self: &Arc<Self>) {
        let mut books = self.books();
        let room = MAX_PROXIES.saturating_sub(books.proxies);
        let lacking = books.ordered.len().saturating_sub(books.staying());
        for _ in 0..books.waiting().min(lacking).min(room) {
            // Without another one the orders wait for one that comes free.
            if self.add_proxy(&mut books).is_err() {
                break;
            }
        }
    }

    /// Readable when an order was carried out.
    pub(super) fn done(&self) -> BorrowedFd<'_> {
        self.done.reader.as_fd()
    }

    /// Takes what was carried out. To be called by one thread only.
    pub(super) fn collect(&self) -> Vec<Spawned> {
        let mut numbers = [0; 64 * 8];
        let read = nix::unistd::read(&self.done.reader, &mut numbers).unwrap_or(0);
        let (numbers, _) = numbers.get(..read).unwrap_or_default().as_chunks::<8>();
        let mut books = self.books();
        // The end of a proxy that was killed is told of twice now and then.
        let numbers = numbers.iter().map(|number| u64::from_ne_bytes(*number));
        let ordered: Vec<_> = numbers.filter_map(|number| books.ordered.remove(&number)).collect();
        // Those that are free, but for the permanent ones.
        let needed = books.ordered.len().max(PERMANENT_THREADS);
        let surplus = books.staying().saturating_sub(needed);
        self.dismiss(&mut books, surplus);
        drop(books);
        ordered.into_iter().map(|ordered| ordered.spawned()).collect()
    }

    /// Has free proxies end.
    fn dismiss(&self, books: &mut Books, count: usize) {
        for _ in 0..count {
            while self.send(Message::DISMISSED) == Err(Errno::EAGAIN) {
                // Of hundreds.
                self.wait_for_room();
            }
            books.dismissed += 1;
        }
    }

    /// Ends the proxies, all of which must be free: in a program that takes the place of this one they would not end as they must.
    pub(super) fn end_proxies(&self) {
        let mut books = self.books();
        books.closing = true;
        let count = books.staying();
        self.dismiss(&mut books, count);
        let guardians = std::mem::take(&mut books.guardians);
        drop(books);
        for guardian in guardians {
            // It does not panic.
            let _ = guardian.join();
        }
        let mut books = self.books();
        self.empty(&mut books);
        books.closing = false;
    }

    /// Forgets what no proxy has begun, and ends each once it is free.
    pub(super) fn close(&self) {
        let mut books = self.books();
        books.closing = true;
        books.ordered.values().for_each(|ordered| {
            ordered.order.begun.store(true, Ordering::Release);
        });
        // Where so many are held that there is no room for all, they end when this program does.
        for _ in 0..books.staying() {
            if self.send(Message::DISMISSED).is_ok() {
                books.dismissed += 1;
            }
        }
    }

    /// Takes everything out of the pipe. There must be no proxy that reads it, too.
    fn empty(&self, books: &mut Books) {
        let mut bytes: libc::c_int = 0;
        // SAFETY: the kernel writes one int.
        unsafe { libc::ioctl(self.orders.reader.as_raw_fd(), libc::FIONREAD, &raw mut bytes) };
        let mut bytes = vec![0; usize::try_from(bytes).unwrap_or(0)];
        if !bytes.is_empty() {
            // There is so much in it, so this does not wait.
            let _ = nix::unistd::read(&self.orders.reader, &mut bytes);
        }
        books.dismissed = 0;
    }

    fn add_proxy(self: &Arc<Self>, books: &mut Books) -> io::Result<()> {
        let orders = Arc::clone(self);
        books.guardians.retain(|guardian| !guardian.is_finished());
        let guardian = std::thread::Builder::new()
            .name("proxy".into())
            .stack_size(GUARDIAN_STACK)
            .spawn(move || {
                sys::block_all_signals();
                match sys::leave_own_umask() {
                    Ok(()) => orders.guard(),
                    Err(error) => orders.give_up(&error),
                }
            })?;
        books.proxies += 1;
        books.guardians.push(guardian);
        Ok(())
    }

    /// A guardian's life: one proxy after another, until one is dismissed.
    fn guard(&self) {
        // How many in turn were killed before they had done anything.
        let mut fruitless = 0;
        loop {
            let left =
                proxy::make_and_outlive(self.orders.reader.as_fd(), self.done.writer.as_fd());
            match left {
                Ok(Left::Dismissed) => {
                    let mut books = self.books();
                    books.dismissed = books.dismissed.saturating_sub(1);
                    books.proxies -= 1;
                    return;
                }
                Ok(Left::Done(number)) => {
                    fruitless = 0;
                    self.tell(number);
                }
                Ok(Left::Undone { message, first }) => {
                    fruitless = if first { fruitless + 1 } else { 0 };
                    self.order_again(message);
                }
                Ok(Left::Untouched) => fruitless += 1,
                Err(error) => return self.give_up(&error),
            }
            if fruitless >= PATIENCE {
                return self.give_up(&io::Error::from_raw_os_error(libc::ECHILD));
            }
            if self.books().closing {
                self.books().proxies -= 1;
                return;
            }
        }
    }

    /// Tells the engine that an order was carried out, or never will be.
    fn tell(&self, number: u64) {
        // Waits while thousands are untold. What else could fail is a descriptor that is not ours.
        let _ = nix::unistd::write(&self.done.writer, &number.to_ne_bytes());
    }

    fn order_again(&self, message: Message) {
        loop {
            let mut books = self.books();
            let Some(ordered) = books.ordered.get(&message.number) else { return };
            if books.closing {
                return;
            }
            ordered.order.begun.store(false, Ordering::Release);
            if self.send(message) != Err(Errno::EAGAIN) {
                books.untaken.push(message.number);
                return;
            }
            drop(books);
            self.wait_for_room();
        }
    }

    /// There is one proxy less. With the last one, what is ordered has failed.
    fn give_up(&self, error: &io::Error) {
        let errno = error.raw_os_error().unwrap_or(libc::ECHILD);
        let mut books = self.books();
        books.proxies -= 1;
        if books.proxies > 0 {
            return;
        }
        self.empty(&mut books);
        let told = |order: &Order| {
            order.child.compare_exchange(0, -errno, Ordering::AcqRel, Ordering::Acquire).is_ok()
        };
        let failed: Vec<u64> = books
            .ordered
            .iter()
            .filter(|(_, ordered)| told(&ordered.order))
            .map(|(number, _)| *number)
            .collect();
        drop(books);
        failed.into_iter().for_each(|number| self.tell(number));
    }

    /// Waits until there may be room for another message: thousands wait for proxies.
    fn wait_for_room(&self) {
        let mut room = [PollFd::new(self.orders.writer.as_fd(), PollFlags::POLLOUT)];
        let _ = poll(&mut room, PollTimeout::NONE);
    }
}

impl Books {
    /// How many orders no proxy has begun.
    fn waiting(&mut self) -> usize {
        let Books { ordered, untaken, .. } = self;
        let begun = |number: &u64| {
            ordered.get(number).is_none_or(|it| it.order.begun.load(Ordering::Acquire))
        };
        untaken.retain(|number| !begun(number));
        untaken.len()
    }

    /// How many proxies there are that are not dismissed.
    fn staying(&self) -> usize {
        self.proxies.saturating_sub(self.dismissed)
    }
}
