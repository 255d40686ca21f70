//! An installation in a folder of its own, and programs that are built against it and run.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

pub const PATIENCE: Duration = Duration::from_secs(90);

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub fn scratch(name: &str) -> PathBuf {
    // Programs that are built with other flags must not take the place of those that are not.
    let folder = match std::env::var_os("WHARF_PREFIX") {
        Some(prefix) => Path::new(&prefix).join("scratch"),
        None => env!("CARGO_TARGET_TMPDIR").into(),
    };
    std::fs::create_dir_all(&folder).unwrap();
    folder.join(name)
}

/// Whether a tool is there. One that is missing is said aloud; where tools are required, it is a failure.
pub fn has(tool: &str) -> bool {
    let there = Command::new(tool).arg("--version").output().is_ok();
    if !there {
        assert!(!std::env::var("WHARF_REQUIRE_TOOLS").is_ok_and(|value| value == "1"), "there is no {tool}");
        let _ = writeln!(std::io::stderr(), "skipped: no {tool}");
    }
    there
}

/// Runs a command to its end; gives what it printed.
#[track_caller]
pub fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{text}", output.status);
    text
}

pub fn make(arguments: &[&str]) -> Command {
    let mut command = Command::new("make");
    // A make above this one hands down a job server that its children here could not use.
    command.current_dir(root()).args(arguments).env_remove("MAKEFLAGS").env_remove("MAKELEVEL");
    command
}

/// The library, installed once a run into an empty folder; None when a tool is missing.
pub fn installation() -> Option<&'static Path> {
    static INSTALLATION: OnceLock<Option<PathBuf>> = OnceLock::new();
    let made = INSTALLATION.get_or_init(|| {
        if !(has("make") && has("cc") && has("pkg-config")) {
            return None;
        }
        // An installation that is there already: tools/sanitize.sh has one with its own flags.
        if let Some(prefix) = std::env::var_os("WHARF_PREFIX") {
            return Some(prefix.into());
        }
        let prefix = scratch("prefix");
        let _ = std::fs::remove_dir_all(&prefix);
        run(&mut make(&["install", &format!("PREFIX={}", prefix.display())]));
        Some(prefix)
    });
    made.as_deref()
}

/// The C examples, built out of the tree with nothing but their own Makefile and pkg-config; None when a tool is missing.
pub fn examples() -> Option<&'static Path> {
    static EXAMPLES: OnceLock<Option<PathBuf>> = OnceLock::new();
    EXAMPLES.get_or_init(|| installation().map(|prefix| build_examples(prefix, "examples", &[]))).as_deref()
}

pub fn build_examples(prefix: &Path, name: &str, arguments: &[&str]) -> PathBuf {
    let folder = scratch(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    for entry in std::fs::read_dir(root().join("c_examples")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|ending| ending == "c" || ending == "h") || path.ends_with("Makefile") {
            std::fs::copy(&path, folder.join(path.file_name().unwrap())).unwrap();
        }
    }
    let mut command = make(arguments);
    run(command.current_dir(&folder).env("PKG_CONFIG_PATH", prefix.join("lib/pkgconfig")));
    folder
}

/// Compiles one C file against the installation.
pub fn compile(prefix: &Path, source: &Path, name: &str) -> PathBuf {
    let program = scratch(name);
    let ask = |question: &[&str]| {
        run(Command::new("pkg-config").args(question).arg("wharf").env("PKG_CONFIG_PATH", prefix.join("lib/pkgconfig")))
    };
    let mut command = Command::new(std::env::var_os("CC").unwrap_or("cc".into()));
    command.args(["-std=c99", "-g", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-o"]).arg(&program).arg(source);
    command.arg(format!("-I{}", root().join("c_examples").display()));
    command.args(ask(&["--cflags"]).split_whitespace());
    if std::env::var_os("STATIC").is_some() {
        command.arg(prefix.join("lib/libwharf.a")).args(ask(&["--variable=static_libs"]).split_whitespace());
    } else {
        command.args(ask(&["--libs"]).split_whitespace()).arg(format!("-Wl,-rpath,{}", prefix.join("lib").display()));
    }
    run(&mut command);
    program
}

/// How a program is run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Under {
    Nothing,
    /// Memory errors and lost memory make it fail.
    Valgrind,
}

pub fn command(program: &Path, under: Under) -> Command {
    match under {
        Under::Nothing => Command::new(program),
        Under::Valgrind => {
            let mut command = Command::new("valgrind");
            command.args([
                "--quiet",
                "--leak-check=full",
                "--show-leak-kinds=definite,indirect,possible",
                "--errors-for-leak-kinds=definite,indirect",
                "--error-exitcode=99",
                "--fair-sched=try",
            ]);
            command.arg(program);
            command
        }
    }
}

/// A program that runs; ended when dropped.
pub struct Program {
    child: Child,
    lines: Receiver<String>,
    seen: Mutex<Vec<String>>,
}

impl Program {
    pub fn start(program: &Path, arguments: &[&str], under: Under) -> Program {
        let mut command = command(program, under);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let (tell, lines) = channel();
        let tell_errors = tell.clone();
        let (output, errors) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        std::thread::spawn(move || pump(output, |line| tell.send(line).is_ok()));
        std::thread::spawn(move || pump(errors, |line| tell_errors.send(line).is_ok()));
        Program { child, lines, seen: Mutex::default() }
    }

    /// Waits for a line that contains a text; gives it.
    #[track_caller]
    pub fn expect(&self, text: &str) -> String {
        let mut seen = self.seen.lock().unwrap();
        if let Some(line) = seen.iter().find(|line| line.contains(text)) {
            return line.clone();
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    seen.push(line.clone());
                    if line.contains(text) {
                        return line;
                    }
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    panic!("waited in vain for {text:?}; seen: {seen:#?}")
                }
            }
        }
    }

    /// Where it listens.
    #[track_caller]
    pub fn address(&self) -> String {
        let line = self.expect("listening on ");
        line.split("listening on ").nth(1).unwrap().trim().to_string()
    }

    pub fn type_line(&mut self, line: &str) {
        let input = self.child.stdin.as_mut().unwrap();
        writeln!(input, "{line}").unwrap();
        input.flush().unwrap();
    }

    /// Ends its input.
    pub fn end_input(&mut self) {
        drop(self.child.stdin.take());
    }

    /// Asks it to end by SIGTERM, and sees that it does, with success; gives all that it printed.
    #[track_caller]
    pub fn terminate(mut self) -> Vec<String> {
        let status = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
        self.must_end()
    }

    /// Sees that it ends by itself, with success.
    #[track_caller]
    pub fn ends(mut self) {
        self.must_end();
    }

    #[track_caller]
    fn must_end(&mut self) -> Vec<String> {
        self.end_input();
        let status = self.wait();
        let mut lines = std::mem::take(&mut *self.seen.lock().unwrap());
        lines.extend(self.lines.iter());
        assert!(status.success(), "{status}: {lines:#?}");
        lines
    }

    fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the program does not end: {:#?}", self.seen.lock().unwrap());
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn pump(from: impl std::io::Read, tell: impl Fn(String) -> bool) {
    for line in BufReader::new(from).split(b'\n') {
        let Ok(line) = line else { return };
        if !tell(String::from_utf8_lossy(&line).into_owned()) {
            return;
        }
    }
}
