//! A place for configurations, sockets and pinned maps: tmpfs and bpffs in a mount namespace of the calling thread.
//! Nobody else sees them, and nothing is left on disk even when the process is killed. Several of one thread share the mounts,
//! each with a directory and a bpffs of its own, so that none hides the files of another.

use std::cell::Cell;
use std::fs;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

/// Exists on every system, and nothing that the laboratory starts needs what it hides.
const MOUNT_POINT: &str = "/run";

thread_local! {
    /// How many scratch places this thread has now.
    static LIVING: Cell<usize> = const { Cell::new(0) };
    /// How many it made since there was none.
    static MADE: Cell<usize> = const { Cell::new(0) };
}

/// The scratch place of the thread that made it: processes see it if that thread starts them.
#[derive(Debug)]
pub struct Scratch {
    root: PathBuf,
    bpffs: Option<PathBuf>,
    /// Mounts belong to the thread, so the value must stay on it.
    thread: PhantomData<*const ()>,
}

impl Scratch {
    /// Gives the calling thread its own mounts and a scratch place in them.
    ///
    /// # Errors
    /// Not privileged to mount.
    pub fn new() -> Result<Self> {
        if LIVING.get() == 0 {
            mount_tmpfs()?;
            MADE.set(0);
        }
        let number = MADE.get();
        let name = if number == 0 { "xbeat-lab".to_owned() } else { format!("xbeat-lab-{number}") };
        let root = Path::new(MOUNT_POINT).join(name);
        fs::create_dir(&root).context("cannot make the scratch directory")?;
        let bpffs = root.join("bpf");
        fs::create_dir(&bpffs).context("cannot make the bpffs directory")?;
        // A user namespace may not mount bpffs; the agents then run on the socket path.
        let mounted = mount(Some("bpf"), &bpffs, Some("bpf"), MsFlags::empty(), None::<&str>);
        MADE.set(number + 1);
        LIVING.set(LIVING.get() + 1);
        Ok(Self { root, bpffs: mounted.ok().map(|()| bpffs), thread: PhantomData })
    }

    /// The directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The bpffs in it, where one could be mounted.
    pub fn bpffs(&self) -> Option<&Path> {
        self.bpffs.as_deref()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be unmounted now goes with the thread.
        if let Some(bpffs) = &self.bpffs {
            let _ = umount2(bpffs, MntFlags::MNT_DETACH);
        }
        let _ = fs::remove_dir_all(&self.root);
        LIVING.set(LIVING.get().saturating_sub(1));
        if LIVING.get() == 0 {
            let _ = umount2(MOUNT_POINT, MntFlags::MNT_DETACH);
        }
    }
}

fn mount_tmpfs() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).context("cannot make a mount namespace")?;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).context("cannot make mounts private")?;
    mount(Some("tmpfs"), MOUNT_POINT, Some("tmpfs"), MsFlags::empty(), Some("mode=0755"))
        .with_context(|| format!("cannot mount a tmpfs on {MOUNT_POINT}"))
}
