//! The terminal, while the view has it.

use std::io::{self, Stdout, stdout};
use std::sync::Once;

use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::{Hide, Show};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};

/// The whole terminal. When it is dropped, the terminal is as it was: at every end, a panic's included.
pub(super) struct Screen {
    /// What is drawn on.
    pub terminal: Terminal<CrosstermBackend<Stdout>>,
}

impl Screen {
    /// Takes the terminal.
    ///
    /// # Errors
    /// If it cannot be had. It is as it was then.
    pub(super) fn open() -> io::Result<Self> {
        restore_on_panic();
        let taken = enable_raw_mode()
            .and_then(|()| execute!(stdout(), EnterAlternateScreen, Hide))
            .and_then(|()| Terminal::new(CrosstermBackend::new(stdout())));
        match taken {
            Ok(terminal) => Ok(Self { terminal }),
            Err(error) => {
                restore();
                Err(error)
            }
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore();
    }
}

/// A terminal that is gone needs nothing more.
fn restore() {
    let _ = execute!(stdout(), LeaveAlternateScreen, Show);
    let _ = disable_raw_mode();
}

/// What a panic says is said on the screen that stays.
fn restore_on_panic() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let says = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            restore();
            says(panic);
        }));
    });
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::mem::forget;

    use portable_pty::{CommandBuilder, MasterPty, PtySize, native_pty_system};
    use vt100::Parser;

    use super::*;

    /// Set where this program is to panic with the terminal in its hands.
    const IS_CHILD: &str = "PADDOCK_TEST_PANICS";
    const SAYS: &str = "a boot went missing";
    const SIZE: PtySize = PtySize { rows: 24, cols: 200, pixel_width: 0, pixel_height: 0 };

    fn is_cooked(master: &dyn MasterPty) -> bool {
        let modes = format!("{:?}", master.get_termios().unwrap().local_flags);
        ["ECHO", "ICANON", "ISIG"].iter().all(|mode| modes.contains(mode))
    }

    /// This test runs itself once more, in a terminal.
    #[test]
    fn a_panic_gives_the_terminal_back_before_it_says_why() {
        if std::env::var_os(IS_CHILD).is_some() {
            let mut screen = Screen::open().unwrap();
            screen.terminal.draw(|frame| frame.render_widget("drawn", frame.area())).unwrap();
            // So that only the hook is left to restore anything.
            forget(screen);
            panic!("{SAYS}");
        }
        let pair = native_pty_system().openpty(SIZE).unwrap();
        let mut command = CommandBuilder::new(std::env::current_exe().unwrap());
        command.args([
            "--exact",
            "dashboard::terminal::screen::tests::a_panic_gives_the_terminal_back_before_it_says_why",
        ]);
        command.args(["--nocapture", "--test-threads", "1"]);
        command.env(IS_CHILD, "1");
        command.env("TERM", "xterm-256color");
        command.env("RUST_BACKTRACE", "0");
        let mut child = pair.slave.spawn_command(command).unwrap();
        drop(pair.slave);
        let mut output = pair.master.try_clone_reader().unwrap();
        let (mut all, mut bytes) = (Vec::new(), [0; 4096]);
        // The last reader's error is the program's end.
        while let Ok(count @ 1..) = output.read(&mut bytes) {
            all.extend_from_slice(&bytes[..count]);
        }
        assert!(!child.wait().unwrap().success());
        let said = String::from_utf8_lossy(&all);
        assert!(said.contains("\x1b[?1049h") && said.contains("drawn"), "it had the terminal: {said}");
        let mut terminal = Parser::new(SIZE.rows, SIZE.cols, 0);
        terminal.process(&all);
        let screen = terminal.screen();
        assert!(!screen.alternate_screen() && !screen.hide_cursor(), "{said}");
        assert!(screen.contents().contains(SAYS), "on the screen that stays: {}", screen.contents());
        assert!(is_cooked(&*pair.master), "lines are echoed again");
    }
}
