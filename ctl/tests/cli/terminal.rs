//! ovctl on a terminal: a pseudo-terminal whose other end the test holds.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    process::{Child, Command},
};

use nix::{
    pty::openpty,
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    fake::{Fake, World},
    network::world,
    run::Lab,
};

/// What runs on the terminal, and the terminal.
struct OnTerminal {
    child: Child,
    reader: BufReader<File>,
    keys: File,
}

impl OnTerminal {
    /// Runs `ovctl` with `words` in front of a new terminal.
    fn start(ovctl: &Command, words: &[&str]) -> Self {
        let pair = openpty(None, None).unwrap();
        let (master, slave) = (File::from(pair.master), File::from(pair.slave));
        // A process takes a terminal for its own only as setsid does.
        let mut command = Command::new("setsid");
        command.arg("--ctty").arg(ovctl.get_program()).args(ovctl.get_args()).args(words);
        command.envs(ovctl.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.stdin(slave.try_clone().unwrap()).stdout(slave.try_clone().unwrap()).stderr(slave);
        let child = command.spawn().expect("this test needs setsid of util-linux");
        Self { child, reader: BufReader::new(master.try_clone().unwrap()), keys: master }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.reader.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    fn status(mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

#[test]
fn prune_asks_on_a_terminal() {
    for (answer, status, pruned) in [("y\n", 0, 1), ("n\n", 1, 0), ("\n", 1, 0)] {
        let fake = Fake::start(world());
        let mut terminal = OnTerminal::start(&fake.command(), &["network", "prune"]);
        assert!(terminal.line().starts_with("WARNING! This will remove all networks that have no endpoints"));
        assert_eq!(terminal.line(), "Are you sure you want to continue? [y/N]");
        terminal.press(answer);
        assert_eq!(terminal.status(), Some(status), "{answer:?}");
        assert_eq!(fake.calls().len(), pruned, "{answer:?}");
    }
}

const SCRIPT: &str =
    "trap 'echo got' INT; trap 'echo end; exit 5' USR1; echo ready; while :; do sleep 0.01; done";

#[test]
fn ctrl_c_reaches_the_command() {
    let lab = Lab::new(World::default());
    let mut terminal = OnTerminal::start(&lab.ovctl(), &["run", "--rm", "--", "sh", "-c", SCRIPT]);
    assert_eq!(terminal.line(), "ready");
    terminal.press("\u{3}");
    assert_eq!(terminal.line(), "^Cgot");
    terminal.signal(Signal::SIGUSR1);
    assert_eq!(terminal.line(), "end");
    assert_eq!(terminal.status(), Some(5));
}

#[test]
fn ctrl_c_on_a_terminal_is_left_to_the_terminal() {
    let lab = Lab::new(World::default());
    // Away from the terminal, the command gets what ovctl hands on, and nothing else.
    let mut terminal = OnTerminal::start(&lab.ovctl(), &["run", "--rm", "--", "setsid", "sh", "-c", SCRIPT]);
    assert_eq!(terminal.line(), "ready");
    terminal.press("\u{3}");
    // The terminal shows the key after it has sent the signal.
    let mut shown = [0; 2];
    terminal.reader.read_exact(&mut shown).unwrap();
    assert_eq!(&shown, b"^C");
    terminal.signal(Signal::SIGUSR1);
    assert_eq!(terminal.line(), "end");
    assert_eq!(terminal.status(), Some(5));
}
