//! The program in a terminal: what is on its screen, and what its keys do.

use std::io::{Read, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};
use rustix::process::{Pid, Signal, kill_process};
use vt100::Parser;

use crate::support::wait::eventually;

/// For anything that a screen is to show, on a busy machine.
const SOON: Duration = Duration::from_secs(30);

/// Of a terminal that says it has none.
const UNKNOWN_COLUMNS: u16 = 200;

pub const ESC: &str = "\x1b";
pub const ENTER: &str = "\r";
pub const TAB: &str = "\t";
pub const DOWN: &str = "\x1b[B";
pub const CTRL_C: &str = "\x03";

/// A program in a pseudo-terminal. It is killed when this is dropped.
pub struct Pty {
    master: Box<dyn MasterPty + Send>,
    keys: Box<dyn Write + Send>,
    child: Box<dyn Child + Send + Sync>,
    parser: Arc<Mutex<Parser>>,
}

impl Pty {
    /// `paddock` with these arguments and variables, in a terminal of so many columns and rows. With 0 columns it does not
    /// know its size, and has [`UNKNOWN_COLUMNS`].
    pub fn start(args: &[&str], environment: &[(&str, &str)], (columns, rows): (u16, u16)) -> Self {
        let pair = native_pty_system().openpty(size(columns, rows)).unwrap();
        let mut command = CommandBuilder::new(env!("CARGO_BIN_EXE_paddock"));
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("PADDOCK_")) {
            command.env_remove(name);
        }
        command.env_remove("NO_COLOR");
        command.env("TERM", "xterm-256color");
        command.env("AWS_EC2_METADATA_DISABLED", "true");
        for (name, value) in environment {
            command.env(name, value);
        }
        command.args(args);
        let child = pair.slave.spawn_command(command).unwrap();
        drop(pair.slave);
        let seen = if columns == 0 { UNKNOWN_COLUMNS } else { columns };
        let parser = Arc::new(Mutex::new(Parser::new(rows, seen, 0)));
        let mut output = pair.master.try_clone_reader().unwrap();
        let screen = Arc::clone(&parser);
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // The last reader's error is the program's end.
            while let Ok(count @ 1..) = output.read(&mut bytes) {
                screen.lock().unwrap().process(&bytes[..count]);
            }
        });
        let keys = pair.master.take_writer().unwrap();
        Self { master: pair.master, keys, child, parser }
    }

    /// What is on the screen, row by row.
    pub fn text(&self) -> String {
        self.parser.lock().unwrap().screen().contents()
    }

    /// Waits until the screen is so.
    pub async fn until(&self, what: &str, mut is_so: impl FnMut(&str) -> bool) -> String {
        eventually(what, SOON, async || {
            let text = self.text();
            is_so(&text).then_some(text)
        })
        .await
    }

    /// Waits until all of these are on the screen.
    pub async fn shows(&self, texts: &[&str]) -> String {
        self.until(&format!("{texts:?}"), |screen| texts.iter().all(|text| screen.contains(text))).await
    }

    /// Waits until this is not on the screen any more.
    pub async fn hides(&self, text: &str) -> String {
        self.until(&format!("no {text}"), |screen| !screen.contains(text)).await
    }

    /// Types.
    pub fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
        self.keys.flush().unwrap();
    }

    /// Changes the terminal's size.
    pub fn resize(&self, columns: u16, rows: u16) {
        self.parser.lock().unwrap().screen_mut().set_size(rows, columns);
        self.master.resize(size(columns, rows)).unwrap();
    }

    /// Whether the program has left the terminal as it was: the first screen, a cursor, and lines that are echoed.
    pub fn is_restored(&self) -> bool {
        let parser = self.parser.lock().unwrap();
        let modes = format!("{:?}", self.master.get_termios().unwrap().local_flags);
        let is_cooked = ["ECHO", "ICANON", "ISIG"].iter().all(|mode| modes.contains(mode));
        !parser.screen().alternate_screen() && !parser.screen().hide_cursor() && is_cooked
    }

    /// Whether any cell has a colour.
    pub fn is_coloured(&self) -> bool {
        let parser = self.parser.lock().unwrap();
        let (rows, columns) = parser.screen().size();
        (0..rows).any(|row| {
            (0..columns).any(|column| {
                parser.screen().cell(row, column).is_some_and(|cell| cell.fgcolor() != vt100::Color::Default)
            })
        })
    }

    /// Asks it to end.
    pub fn sigterm(&self) {
        let pid = self.child.process_id().unwrap().cast_signed();
        kill_process(Pid::from_raw(pid).unwrap(), Signal::TERM).unwrap();
    }

    /// Its exit code, once it has ended.
    pub async fn ended(&mut self) -> u32 {
        let child = &mut self.child;
        let status = eventually("it ends", SOON, async || child.try_wait().unwrap()).await;
        status.exit_code()
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the screen\n{}\n---", self.text());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn size(cols: u16, rows: u16) -> PtySize {
    PtySize { rows, cols, pixel_width: 0, pixel_height: 0 }
}
