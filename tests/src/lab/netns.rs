//! Network namespaces without names: held by a descriptor, entered by setns, gone with the process that made them.
//! Processes enter by setns between fork and exec (`ip netns exec` would hide the bpffs mount) and die with their starter.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context as _, Result, anyhow, bail};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;

/// A network namespace; the name is for messages.
#[derive(Debug)]
pub struct Netns {
    name: String,
    fd: OwnedFd,
}

impl Netns {
    /// A new namespace with its loopback up.
    ///
    /// # Errors
    /// Not privileged.
    pub fn new(name: &str) -> Result<Self> {
        let made = thread::scope(|scope| {
            let maker = scope.spawn(|| -> Result<OwnedFd> {
                unshare(CloneFlags::CLONE_NEWNET).context("cannot make a network namespace")?;
                let file = File::open("/proc/thread-self/ns/net").context("cannot open the namespace")?;
                Ok(file.into())
            });
            maker.join()
        });
        let fd = made.map_err(|_| anyhow!("the thread that makes namespaces panicked"))??;
        let netns = Self { name: name.to_owned(), fd };
        netns.ip("link set lo up")?;
        Ok(netns)
    }

    /// Its name in messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A path that other processes can open, for `ip link ... netns PATH`.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), self.fd.as_raw_fd()))
    }

    /// Runs `work` on a thread inside; sockets made there stay inside.
    ///
    /// # Errors
    /// Entering failed, or `work` did.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let done = thread::scope(|scope| {
            let worker = scope.spawn(|| {
                setns(&self.fd, CloneFlags::CLONE_NEWNET).context("cannot enter the namespace")?;
                work()
            });
            worker.join()
        });
        done.map_err(|_| anyhow!("work inside namespace {} panicked", self.name))?
    }

    /// A command that will run inside and is killed when the calling thread ends.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        let fd = self.fd.as_raw_fd();
        let enter = move || {
            // SAFETY: the namespace outlives the fork: `self` is borrowed by nobody else, and the child has a copy.
            let fd = unsafe { BorrowedFd::borrow_raw(fd) };
            setns(fd, CloneFlags::CLONE_NEWNET)?;
            set_pdeathsig(Signal::SIGKILL)?;
            Ok(())
        };
        // SAFETY: only system calls between fork and exec.
        unsafe { command.pre_exec(enter) };
        command
    }

    /// Runs lines of iproute2, without the leading `ip`, inside.
    ///
    /// # Errors
    /// iproute2 is missing or refused a line.
    pub fn ip(&self, lines: &str) -> Result<()> {
        let mut child = self
            .command("ip")
            .args(["-batch", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot run ip (package iproute2)")?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(lines.as_bytes()).context("cannot write to ip")?;
        }
        let output = child.wait_with_output().context("cannot wait for ip")?;
        if !output.status.success() {
            bail!("ip in {}: {}", self.name, String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(())
    }

    /// What `ip ARGS` prints inside.
    ///
    /// # Errors
    /// iproute2 is missing or failed.
    pub fn ip_output(&self, args: &[&str]) -> Result<String> {
        let output = self.command("ip").args(args).output().context("cannot run ip")?;
        if !output.status.success() {
            bail!(
                "ip {} in {}: {}",
                args.join(" "),
                self.name,
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Writes a value under `/proc/sys/net`, such as `ipv6/conf/all/accept_dad`.
    ///
    /// # Errors
    /// No such setting.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        // /proc/sys/net shows the namespace of the thread that opens it.
        self.run(|| {
            std::fs::write(format!("/proc/sys/net/{key}"), value)
                .with_context(|| format!("cannot set net/{key}"))
        })
    }

    /// Whether `address` is configured on any interface inside.
    ///
    /// # Errors
    /// iproute2 failed.
    pub fn has_address(&self, address: std::net::IpAddr) -> Result<bool> {
        let listed = self.ip_output(&["-o", "addr", "show"])?;
        let wanted = format!(" {address}/");
        Ok(listed.lines().any(|line| line.contains(&wanted)))
    }
}
