//! [`Terminal`]: a pseudo-terminal with a program on it, as a user sits in front of one.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::process::{Child, Command, ExitStatus};
use std::sync::Arc;
use std::time::Duration;

use nix::pty::{Winsize, openpty};
use parking_lot::{Condvar, Mutex};

use crate::{PATIENCE, now};

/// A terminal of 40 rows and 100 columns, and the program on it.
pub struct Terminal {
    keyboard: File,
    /// Its size is changed through this end, as a window manager would.
    line: File,
    screen: Arc<Screen>,
    program: Child,
}

#[derive(Default)]
struct Screen {
    text: Mutex<String>,
    written: Condvar,
}

impl Terminal {
    /// Starts `command` with a new terminal as its controlling one.
    pub fn run(command: &Command) -> Self {
        let size = Winsize { ws_row: 40, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 };
        let pair = openpty(&size, None).expect("a pseudo-terminal");
        let (keyboard, line) = (File::from(pair.master), File::from(pair.slave));
        let end = || line.try_clone().expect("another handle of the terminal");
        let mut session = Command::new("setsid");
        session.args(["--ctty", "--wait"]).arg(command.get_program()).args(command.get_args());
        session.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let program = session.stdin(end()).stdout(end()).stderr(end()).spawn().expect("starting setsid");
        let screen = Arc::new(Screen::default());
        let (reader, written) = (keyboard.try_clone().expect("another handle"), Arc::clone(&screen));
        std::thread::Builder::new()
            .name("screen".to_owned())
            .spawn(move || show(reader, &written))
            .expect("a thread");
        Self { keyboard, line, screen, program }
    }

    /// Types.
    pub fn write(&mut self, text: &str) {
        self.keyboard.write_all(text.as_bytes()).expect("typing");
    }

    /// Waits until `text` is on the screen, and clears it up to there.
    pub fn expect(&self, text: &str) {
        let deadline = now() + PATIENCE;
        let mut shown = self.screen.text.lock();
        loop {
            if let Some(at) = shown.find(text) {
                shown.drain(..at + text.len());
                return;
            }
            let left = deadline.saturating_duration_since(now());
            assert!(left > Duration::ZERO, "{text:?} does not come on the screen:\n{shown}");
            self.screen.written.wait_for(&mut shown, left);
        }
    }

    /// Changes the size of the window.
    pub fn resize(&self, rows: u16, columns: u16) {
        let line = self.line.try_clone().expect("another handle");
        let mut stty = Command::new("stty");
        stty.args(["rows", &rows.to_string(), "cols", &columns.to_string()]).stdin(line);
        assert!(stty.status().expect("running stty").success(), "stty");
    }

    /// Closes the window.
    pub fn end(mut self) {
        // setsid waits for the program, which is in its session and loses its terminal with it.
        let _ = self.program.kill();
        let _ = self.program.wait();
    }

    /// Waits for the program's end.
    pub fn wait(mut self) -> ExitStatus {
        self.program.wait().expect("the end of the program")
    }
}

fn show(mut reader: File, screen: &Screen) {
    let mut buffer = [0; 4096];
    // Reading fails when the terminal is gone.
    while let Ok(read @ 1..) = reader.read(&mut buffer) {
        screen.text.lock().push_str(&String::from_utf8_lossy(&buffer[..read]));
        screen.written.notify_all();
    }
}
