//! One host of a lab and the node on it: started, asked, stopped, killed, cut off.
//! Knows the node by its command line only. The node never outlives its host.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use serde_json::Value;

use super::{look_every, system, wait_until};

/// Start to ready is 0.1 s (DESIGN 11); this is for a machine that compiles at the same time.
const READY: Duration = Duration::from_secs(20);
/// A node gives its tasks 5 s to end (DESIGN 10.1).
const STOPPED: Duration = Duration::from_secs(10);
/// No command of these tests waits on purpose for longer.
const ANSWERED: Duration = Duration::from_secs(30);
/// Between two looks whether a command has ended: small beside the milliseconds that it takes.
const GLANCE: Duration = Duration::from_millis(1);
/// Fills a small disk. A file begins with a dot: no node's directory is called so.
const FILLING: &str = ".filling";

/// What a command said and how it ended.
#[derive(Clone, Debug)]
pub struct Output {
    /// The exit code; -1 if a signal ended it.
    pub code: i32,
    /// What programs read.
    pub stdout: String,
    /// What people read.
    pub stderr: String,
}

/// A host and its node.
#[derive(Debug)]
pub struct Host {
    /// The host is called so, and its node.
    pub name: String,
    lab: String,
    namespace: String,
    port: String,
    directory: PathBuf,
    log: PathBuf,
    address: Mutex<String>,
    node: Mutex<Option<Child>>,
}

impl Host {
    pub(super) fn new(lab: &str, name: &str, number: usize, base: &Path) -> Host {
        let host = Host {
            name: name.to_owned(),
            lab: lab.to_owned(),
            namespace: format!("{lab}-{name}"),
            port: format!("port{number}"),
            directory: base.join(name),
            log: base.join(format!("{name}.log")),
            address: Mutex::new(format!("10.77.0.{number}")),
            node: Mutex::new(None),
        };
        fs::create_dir(&host.directory).expect("the lab's directory is ours");
        system::add_host(lab, &host.namespace, number, &host.port, &format!("{}/24", host.address()));
        host
    }

    /// A second node on the same machine, under the same base directory.
    #[must_use]
    pub fn second(&self, name: &str) -> Host {
        Host {
            name: name.to_owned(),
            lab: self.lab.clone(),
            namespace: self.namespace.clone(),
            port: self.port.clone(),
            directory: self.directory.clone(),
            log: self.log.with_file_name(format!("{name}.log")),
            address: Mutex::new(self.address()),
            node: Mutex::new(None),
        }
    }

    /// Where the others reach it.
    #[must_use]
    pub fn address(&self) -> String {
        self.address.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Starts the node and waits until it is ready. `options` are those of `node run`.
    ///
    /// # Panics
    /// If it runs already, or is not ready in time.
    pub fn start(&self, options: &[&str]) {
        self.begin(options);
        self.await_ready();
    }

    /// Starts the node and does not wait for it.
    ///
    /// # Panics
    /// If it runs already.
    pub fn begin(&self, options: &[&str]) {
        let log = File::options().create(true).append(true).open(&self.log).expect("the lab's directory is ours");
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace]).arg(binary()).args(["run", "--name", &self.name]).args(options);
        self.surround(&mut command);
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a file handle can be doubled")).stderr(log);
        let mut node = self.node();
        assert!(node.is_none(), "the node of {} runs already", self.name);
        // `ip` becomes the node: this child's process id is the node's.
        *node = Some(command.spawn().expect("ip can be started: require() looked"));
    }

    /// Waits until the node answers.
    ///
    /// # Panics
    /// If it has ended or does not answer in time.
    pub fn await_ready(&self) {
        wait_until(READY, &format!("{} is ready", self.name), || {
            let ended = self.node().as_mut().expect("begun before").try_wait().expect("a child can be asked");
            assert!(ended.is_none(), "the node of {} ended: {}", self.name, ended.map(|status| status.to_string()).unwrap_or_default());
            self.run(&["status", "--json"]).code == 0
        });
    }

    /// Stops the node politely.
    ///
    /// # Panics
    /// If none runs, or it does not end well and in time.
    pub fn stop(&self) {
        let mut child = self.node().take().expect("the node runs");
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("a child can be signalled");
        let mut status = None;
        wait_until(STOPPED, &format!("the node of {} stops", self.name), || {
            status = child.try_wait().expect("a child can be asked");
            status.is_some()
        });
        assert!(status.is_some_and(|status| status.success()), "the node of {} stopped badly: {status:?}", self.name);
    }

    /// Kills the node at once.
    ///
    /// # Panics
    /// If none runs, or it had ended by itself.
    pub fn kill9(&self) {
        let mut child = self.node().take().expect("the node runs");
        let ended = child.try_wait().expect("a child can be asked");
        assert!(ended.is_none(), "the node of {} ended before it was killed: {ended:?}", self.name);
        child.kill().expect("a child can be killed");
        child.wait().expect("a child can be waited for");
    }

    /// Destroys all that its node ever wrote.
    ///
    /// # Panics
    /// If the node runs.
    pub fn lose_disk(&self) {
        assert!(self.node().is_none(), "the node of {} runs", self.name);
        fs::remove_dir_all(&self.directory).expect("the lab's directory is ours");
        fs::create_dir(&self.directory).expect("the lab's directory is ours");
    }

    /// How the node ended by itself; none while it runs.
    ///
    /// # Panics
    /// If none was started.
    pub fn ended(&self) -> Option<i32> {
        let mut node = self.node();
        let status = node.as_mut().expect("the node was started").try_wait().expect("a child can be asked")?;
        *node = None;
        Some(status.code().unwrap_or(-1))
    }

    /// Gives it a disk of its own, of so many MiB, before its node is started for the first time.
    pub fn small_disk(&self, mebibytes: u64) {
        assert!(self.node().is_none(), "the node of {} runs", self.name);
        system::mount_memory(&self.directory, mebibytes);
    }

    /// Fills the disk until so many bytes are left, with a file that others than the node wrote.
    ///
    /// # Panics
    /// If there is less already.
    pub fn fill_disk(&self, left: u64) {
        let free = || {
            let stat = rustix::fs::statvfs(&self.directory).expect("the lab's directory is ours");
            stat.f_bavail * stat.f_frsize
        };
        let mut file = File::options().create(true).append(true).open(self.directory.join(FILLING)).expect("the lab's directory is ours");
        let page = [7; 4096];
        while free() > left {
            if let Err(error) = file.write_all(&page) {
                assert_eq!(error.kind(), std::io::ErrorKind::StorageFull, "{error}");
                break;
            }
        }
    }

    /// Takes that file away.
    ///
    /// # Panics
    /// If there is none.
    pub fn free_disk(&self) {
        fs::remove_file(self.directory.join(FILLING)).expect("the disk was filled");
    }

    /// Runs `node ARGUMENTS` for this host's node.
    ///
    /// # Panics
    /// If the command does not end in time.
    #[must_use]
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.run_with(arguments, "")
    }

    /// Runs `node ARGUMENTS` with a text piped in.
    ///
    /// # Panics
    /// If the command does not end in time.
    #[must_use]
    pub fn run_with(&self, arguments: &[&str], input: &str) -> Output {
        // Files, not pipes: nobody needs to read them while the command runs.
        let file = || tempfile::tempfile().expect("a temporary file can be made");
        let (mut stdin, mut stdout, mut stderr) = (file(), file(), file());
        stdin.write_all(input.as_bytes()).and_then(|()| stdin.rewind()).expect("a temporary file can be written");
        let double = |file: &File| file.try_clone().expect("a file handle can be doubled");
        // The control socket is a file: there is no need to enter the namespace, which costs two mounts.
        let mut command = Command::new(binary());
        command.args(arguments).stdin(stdin).stdout(double(&stdout)).stderr(double(&stderr));
        self.surround(&mut command);
        command.env("SWARM_NODE", &self.name);
        let mut child = command.spawn().expect("the node's binary can be started");
        let mut status = None;
        look_every(GLANCE, ANSWERED, &format!("`node {}` ends at {}", arguments.join(" "), self.name), || {
            status = child.try_wait().expect("a child can be asked");
            status.is_some()
        });
        let text = |file: &mut File| {
            let mut bytes = Vec::new();
            file.rewind().and_then(|()| file.read_to_end(&mut bytes)).expect("a temporary file can be read");
            String::from_utf8(bytes).expect("the node prints UTF-8")
        };
        let code = status.and_then(|status| status.code()).unwrap_or(-1);
        Output { code, stdout: text(&mut stdout), stderr: text(&mut stderr) }
    }

    /// Runs a command that must succeed, and gives what it printed, without the last line's end.
    ///
    /// # Panics
    /// If it fails.
    pub fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.code, 0, "`node {}` at {}: {}{}", arguments.join(" "), self.name, output.stdout, output.stderr);
        output.stdout.trim_end().to_owned()
    }

    /// Runs a command with `--json` and gives its document.
    ///
    /// # Panics
    /// If it fails or prints none.
    #[must_use]
    pub fn json(&self, arguments: &[&str]) -> Value {
        let text = self.ok(&[arguments, &["--json"]].concat());
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("`node {}` prints no JSON ({error}): {text}", arguments.join(" ")))
    }

    /// Drops, silently, whatever comes in; what goes out still does.
    pub fn cut_incoming(&self) {
        self.drop_packets("cut", "drop", "");
    }

    /// Drops, silently, whatever goes out; what comes in still does.
    pub fn cut_outgoing(&self) {
        self.drop_packets("cut", "", "drop");
    }

    /// Drops, silently, whatever comes in or goes out.
    pub fn cut(&self) {
        self.drop_packets("cut", "drop", "drop");
    }

    /// Ends what [`Host::cut`], [`Host::cut_incoming`] or [`Host::cut_outgoing`] began.
    pub fn heal(&self) {
        self.drop_packets("cut", "", "");
    }

    /// Loses that share of the packets in each direction.
    pub fn lose(&self, percent: u32) {
        let rule = format!("numgen random mod 100 < {percent} drop");
        self.drop_packets("loss", &rule, &rule);
    }

    /// Drops multicast in both directions.
    pub fn multicast_off(&self) {
        let rule = "ip daddr 224.0.0.0/4 drop";
        self.drop_packets("multicast", rule, rule);
    }

    /// Gives the host another address, as a DHCP server might.
    pub fn change_address(&self, new: &str) {
        system::change_address(&self.namespace, &format!("{new}/24"));
        new.clone_into(&mut self.address.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn drop_packets(&self, kind: &str, incoming: &str, outgoing: &str) {
        system::drop_packets(&self.lab, &self.namespace, &self.port, kind, incoming, outgoing);
    }

    fn node(&self) -> MutexGuard<'_, Option<Child>> {
        self.node.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing of the surroundings of the test gets through, above all no swarm of the developer's own.
    fn surround(&self, command: &mut Command) {
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", &self.directory).env("XDG_DATA_HOME", &self.directory).env("NO_COLOR", "1").env("RUST_BACKTRACE", "1");
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(mut child) = self.node().take() {
            // Ended already: that is what is wanted.
            let _ = child.kill();
            let _ = child.wait();
        }
        system::unmount(&self.directory);
    }
}

/// The node's program: the one that is named, else the one of this build.
fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        if let Some(named) = std::env::var_os("NODE_BINARY") {
            return fs::canonicalize(&named).unwrap_or_else(|error| panic!("NODE_BINARY is {}: {error}", Path::new(&named).display()));
        }
        let this = std::env::current_exe().expect("a test knows where it is");
        let profile = this.ancestors().nth(2).expect("tests lie in TARGET/PROFILE/deps");
        let target = profile.parent().expect("tests lie in TARGET/PROFILE/deps");
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "-p", "node", "--bin", "node", "--manifest-path"]);
        cargo.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml")).arg("--target-dir").arg(target);
        if !cfg!(debug_assertions) {
            cargo.arg("--release");
        }
        assert!(cargo.status().expect("cargo can be started").success(), "the node does not build");
        profile.join("node")
    })
}
