//! The server's process as the tests see it.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use super::server::PLAN;

/// Numbers by name, as the server tells them.
#[derive(Clone, Debug, Default)]
pub struct Report(pub HashMap<String, u64>);

impl Report {
    fn parse(line: &str) -> Report {
        let pairs = line.split_whitespace().filter_map(|pair| pair.split_once('='));
        Report(pairs.map(|(key, value)| (key.to_string(), value.parse().unwrap())).collect())
    }

    /// A number; 0 when nothing was told.
    pub fn get(&self, key: &str) -> u64 {
        self.0.get(key).copied().unwrap_or(0)
    }
}

/// A running server.
pub struct ServerProcess {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
    /// Where it listens.
    pub address: SocketAddr,
}

impl ServerProcess {
    /// Starts a server by a plan; in a network namespace, if one is named.
    pub fn start(plan: &str, namespace: Option<&str>) -> ServerProcess {
        let program = std::env::current_exe().unwrap();
        let mut command = match namespace {
            Some(name) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", name]).arg(program);
                command
            }
            None => Command::new(program),
        };
        // In a binary of tests it is a test that is asked for by name.
        command.args(["--exact", "the_process_of_the_server", "--ignored", "--nocapture", "--test-threads=1"]);
        command.env(PLAN, plan).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let orders = child.stdin.take().unwrap();
        let mut answers = BufReader::new(child.stdout.take().unwrap());
        let address = next_line(&mut answers, "@ready").parse().unwrap();
        ServerProcess { child, orders, answers, address }
    }

    /// Sends a signal to its process.
    pub fn signal(&self, signal: i32) {
        // SAFETY: a plain system call; the child was not waited for, so its number is still its own.
        assert_eq!(unsafe { libc::kill(self.child.id() as libc::pid_t, signal) }, 0);
    }

    /// Gives an order that has no answer.
    pub fn order(&mut self, order: &str) {
        writeln!(self.orders, "{order}").unwrap();
    }

    /// What the server counts, and what it costs, now.
    pub fn report(&mut self) -> Report {
        self.order("report");
        Report::parse(&next_line(&mut self.answers, "@report"))
    }

    /// Stops it; its last words.
    pub fn stop(mut self) -> Report {
        self.order("stop");
        let report = Report::parse(&next_line(&mut self.answers, "@end"));
        assert!(self.child.wait().unwrap().success());
        report
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // After an ordinary end there is nothing left to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn next_line(answers: &mut impl BufRead, mark: &str) -> String {
    let mut line = String::new();
    loop {
        line.clear();
        assert!(answers.read_line(&mut line).unwrap() > 0, "the server is gone: its output is above");
        if let Some(rest) = line.strip_prefix(mark) {
            return rest.trim().to_string();
        }
    }
}
