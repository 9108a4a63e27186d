//! A program on a terminal of its own.

use crate::support::wait::{DEADLINE, eventually};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Condvar, Mutex};

/// The output of a terminal so far, and whether it has ended.
#[derive(Default)]
struct Shown {
    text: Mutex<(Vec<u8>, bool)>,
    more: Condvar,
}

/// A terminal, and the program that leads its session. It does not echo what is typed.
pub struct Terminal {
    keys: File,
    child: Child,
    shown: Arc<Shown>,
    reader: Option<std::thread::JoinHandle<()>>,
}

impl Terminal {
    /// Starts the program with all three standard descriptors on a new terminal.
    pub fn of(mut command: Command) -> Terminal {
        let pty = nix::pty::openpty(None, None).unwrap();
        let mut modes = nix::sys::termios::tcgetattr(&pty.slave).unwrap();
        modes.local_flags.remove(nix::sys::termios::LocalFlags::ECHO);
        nix::sys::termios::tcsetattr(&pty.slave, nix::sys::termios::SetArg::TCSANOW, &modes)
            .unwrap();
        let slave = || pty.slave.try_clone().unwrap();
        command.stdin(slave()).stdout(slave()).stderr(slave());
        if !command.get_envs().any(|(name, _)| name == "TERM") {
            command.env("TERM", "xterm");
        }
        // SAFETY: two system calls, which are safe between fork and exec.
        unsafe {
            command.pre_exec(|| {
                nix::unistd::setsid()?;
                match libc::ioctl(0, libc::TIOCSCTTY, 0) {
                    0 => Ok(()),
                    _ => Err(std::io::Error::last_os_error()),
                }
            });
        }
        let master: OwnedFd = pty.master;
        // Otherwise child processes inherit it.
        let flag = nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC);
        nix::fcntl::fcntl(&master, flag).unwrap();
        assert!(master.as_raw_fd() > 2);
        let child = command.spawn().unwrap();
        drop(command);
        drop(pty.slave);
        let keys = File::from(master);
        let mut screen = keys.try_clone().unwrap();
        let shown = Arc::new(Shown::default());
        let to = Arc::clone(&shown);
        let reader = std::thread::spawn(move || {
            let mut buf = [0; 4096];
            loop {
                // EIO means end of file: no process has the terminal open.
                let read = screen.read(&mut buf).unwrap_or(0);
                let mut text = to.text.lock().unwrap();
                text.0.extend_from_slice(&buf[..read]);
                text.1 = read == 0;
                to.more.notify_all();
                if read == 0 {
                    return;
                }
            }
        });
        Terminal { keys, child, shown, reader: Some(reader) }
    }

    /// The output so far, with `\n` line ends.
    pub fn seen(&self) -> String {
        let text = self.shown.text.lock().unwrap();
        String::from_utf8_lossy(&text.0).replace("\r\n", "\n")
    }

    /// Waits until the terminal has shown a text.
    pub fn wait_for(&self, text: &str) {
        let missing = |(seen, over): &mut (Vec<u8>, bool)| {
            !*over && !String::from_utf8_lossy(seen).replace("\r\n", "\n").contains(text)
        };
        let seen = self.shown.text.lock().unwrap();
        drop(self.shown.more.wait_timeout_while(seen, DEADLINE, missing).unwrap());
        assert!(self.seen().contains(text), "{text:?} is not in {:?}", self.seen());
    }

    /// The program's pid.
    #[allow(dead_code, reason = "not every test asks")]
    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// Types keys.
    pub fn type_in(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until the program has ended and its output is complete.
    pub fn wait(&mut self) -> ExitStatus {
        let status = eventually("the program's end", || self.child.try_wait().unwrap());
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        status
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the terminal has shown {:?}", self.seen());
            // The program may have ended already.
            let _ = self.child.kill();
        }
    }
}
