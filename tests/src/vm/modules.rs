//! The order in which a kernel's modules are loaded: each after those that it names in its own `.modinfo`.
//! Neither depmod nor the machine's own lists are needed, since the modules lie here unpacked.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

/// Unpacked modules of one kernel.
#[derive(Debug, Default)]
pub struct Modules {
    by_name: BTreeMap<String, Module>,
}

#[derive(Debug)]
struct Module {
    path: PathBuf,
    depends: Vec<String>,
}

impl Modules {
    /// All `*.ko` files of a directory.
    ///
    /// # Errors
    /// The directory or a file cannot be read.
    pub fn read(directory: &Path) -> Result<Self> {
        let mut modules = Self::default();
        let listed =
            fs::read_dir(directory).with_context(|| format!("no modules in {}", directory.display()))?;
        for entry in listed {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "ko") {
                let content = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
                let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
                modules.by_name.insert(name(&stem), Module { path, depends: depends(&content) });
            }
        }
        Ok(modules)
    }

    /// The files of those `wanted` that this kernel has as modules, and of all that they need, in the order of loading. A
    /// wanted one that is missing is taken to be built in.
    ///
    /// # Errors
    /// One names another that was not unpacked.
    pub fn in_order(&self, wanted: &[&str]) -> Result<Vec<PathBuf>> {
        let mut order = Vec::new();
        let mut seen = BTreeSet::new();
        for module in
            wanted.iter().map(|module| name(module)).filter(|module| self.by_name.contains_key(module))
        {
            self.visit(&module, &mut seen, &mut order)?;
        }
        Ok(order)
    }

    fn visit(&self, module: &str, seen: &mut BTreeSet<String>, order: &mut Vec<PathBuf>) -> Result<()> {
        if !seen.insert(module.to_owned()) {
            return Ok(());
        }
        let known = self.by_name.get(module).with_context(|| format!("module {module} was not unpacked"))?;
        for needed in &known.depends {
            ensure!(
                self.by_name.contains_key(needed),
                "module {module} needs {needed}, which was not unpacked: add its directory to the list in xtask"
            );
            self.visit(needed, seen, order)?;
        }
        order.push(known.path.clone());
        Ok(())
    }
}

/// `-` and `_` are the same in names of modules.
fn name(stem: &str) -> String {
    stem.replace('-', "_")
}

/// What a module says that it needs: `depends=a,b` among the strings of `.modinfo`, which end with a zero each.
fn depends(content: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(start) = content.windows(KEY.len()).position(|window| window == KEY) else { return Vec::new() };
    let rest = content.get(start + KEY.len()..).unwrap_or_default();
    let value = rest.split(|byte| *byte == 0).next().unwrap_or_default();
    let value = String::from_utf8_lossy(value);
    value.split(',').filter(|module| !module.is_empty()).map(name).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::{Modules, depends};

    fn modules(test: &str, files: &[(&str, &str)]) -> (PathBuf, Modules) {
        let directory = std::env::temp_dir().join(format!("xbeat-modules-{test}-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        for (file, needs) in files {
            let content = format!("\x7fELF\0license=GPL\0depends={needs}\0name=x\0");
            fs::write(directory.join(file), content).unwrap();
        }
        let modules = Modules::read(&directory).unwrap();
        fs::remove_dir_all(&directory).unwrap();
        (directory, modules)
    }

    fn names(order: &[PathBuf]) -> Vec<String> {
        order.iter().map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn each_module_comes_after_what_it_needs_and_once() {
        let (_, modules) = modules(
            "order",
            &[
                ("virtio_net.ko", "net-failover,virtio"),
                ("net_failover.ko", "failover"),
                ("failover.ko", ""),
                ("virtio.ko", ""),
                ("virtio-pci.ko", "virtio"),
                ("unwanted.ko", "absent"),
            ],
        );
        let order = modules.in_order(&["virtio_pci", "virtio_net", "built_in", "virtio_net"]).unwrap();
        let expected = ["virtio.ko", "virtio-pci.ko", "failover.ko", "net_failover.ko", "virtio_net.ko"];
        assert_eq!(names(&order), expected);
    }

    #[test]
    fn a_module_that_was_not_unpacked_is_named() {
        let (_, modules) = modules("missing", &[("a.ko", "b")]);
        let error = modules.in_order(&["a"]).unwrap_err().to_string();
        assert!(error.contains("module a needs b"), "{error}");
    }

    #[test]
    fn what_is_needed_is_read_from_the_module_itself() {
        assert_eq!(depends(b"..\0depends=a,b-c\0.."), ["a", "b_c"]);
        assert!(depends(b"..\0depends=\0..").is_empty());
        assert!(depends(b"nothing at all").is_empty());
    }
}
