//! Strategy components for tests, built as their authors build them, and plugin directories that hold them.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use toml_edit::{DocumentMut, Item, value};

/// The example's id.
pub const PAUSER: &str = "pauser";

/// The third-party example of `examples/strategy`, with one of its features or none.
pub fn example(feature: &str) -> Result<PathBuf> {
    component("cvp-example-strategy", feature)
}

/// The third-party example of kind config-sync, `examples/config-strategy`.
pub fn config_example() -> Result<PathBuf> {
    component("cvp-example-config-strategy", "")
}

/// The embedded strategy's source, built once more.
pub fn default_strategy() -> Result<PathBuf> {
    component("cvp-chain-sync", "")
}

/// The default strategy of kind config-sync as a component file; likewise.
pub fn default_config_strategy() -> Result<PathBuf> {
    component("cvp-config-sync", "")
}

/// The third-party example of kind index-check, `examples/index-strategy`.
pub fn index_example() -> Result<PathBuf> {
    component("cvp-example-index-strategy", "")
}

/// The default strategy of kind index-check as a component file.
pub fn default_index_strategy() -> Result<PathBuf> {
    component("cvp-index-check", "")
}

/// The third-party example of kind mq-sync, `examples/mq-strategy`.
pub fn mq_example() -> Result<PathBuf> {
    component("cvp-example-mq-strategy", "")
}

/// The default strategy of kind mq-sync as a component file.
pub fn default_mq_strategy() -> Result<PathBuf> {
    component("cvp-mq-sync", "")
}

/// What all tests share beside the binaries.
fn shared() -> Result<PathBuf> {
    let test = std::env::current_exe()?;
    let shared = test
        .ancestors()
        .find(|path| path.file_name().is_some_and(|name| name == "release"))
        .and_then(Path::parent)
        .context("no target directory")?
        .join("strategies");
    std::fs::create_dir_all(&shared)?;
    Ok(shared)
}

/// The nodes of all tests share what was compiled of strategies: each root of its own would cost its first start 0.8 s of processor time.
pub fn share_compiled(root: &Path) -> Result<()> {
    let cache = shared()?.join("compiled");
    std::fs::create_dir_all(&cache)?;
    std::fs::create_dir_all(root.join("system"))?;
    Ok(std::os::unix::fs::symlink(cache, root.join("system/cache"))?)
}

/// Builds with a cargo of its own, in a target directory that all tests share; each feature's component is kept under its own name.
fn component(package: &str, feature: &str) -> Result<PathBuf> {
    let target = shared()?;
    // From the build to the copy: another test may build the same package with another feature.
    let one = File::create(target.join("one-at-a-time"))?;
    one.lock()?;
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."))
        .args(["build", "--release", "--locked", "--target", "wasm32-wasip2"])
        .args(["-p", package, "--features", feature, "--target-dir"])
        .arg(&target)
        .env_remove("RUSTFLAGS");
    let output = cargo.output()?;
    if !output.status.success() {
        bail!("{package} does not build: {}", String::from_utf8_lossy(&output.stderr));
    }
    let name = package.replace('-', "_");
    let built = target.join(format!("wasm32-wasip2/release/{name}.wasm"));
    let kept = target.join(format!("{name}-{feature}.{}.wasm", std::process::id()));
    std::fs::copy(&built, &kept)?;
    let component = target.join(format!("{name}-{feature}.wasm"));
    std::fs::rename(&kept, &component)?;
    Ok(component)
}

/// Puts `component` into `root`'s plugin directory as the example; the manifest comes last, as an operator would do it.
pub fn install(root: &Path, component: &Path, version: &str) -> Result<()> {
    install_as(root, PAUSER, "strategy", component, version)
}

/// As [`install`], of the example in `examples/<example>` whose id is `id`.
pub fn install_as(root: &Path, id: &str, example: &str, component: &Path, version: &str) -> Result<()> {
    let directory = root.join("plugins").join(id);
    std::fs::create_dir_all(&directory)?;
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let template = examples.join(example).join("plugin.toml");
    let mut manifest: DocumentMut = std::fs::read_to_string(template)?.parse()?;
    manifest["version"] = value(version);
    manifest["sha256"] = value(sha256(component)?);
    let place = |name: &str, bytes: Vec<u8>| -> Result<()> {
        let fresh = directory.join(format!("{name}.new"));
        std::fs::write(&fresh, bytes)?;
        Ok(std::fs::rename(fresh, directory.join(name))?)
    };
    place("plugin.wasm", std::fs::read(component)?)?;
    place("plugin.toml", manifest.to_string().into_bytes())
}

/// Chooses the example for a namespace of a node that does not run, with a mode.
pub fn choose(root: &Path, namespace: &str, mode: &str) -> Result<()> {
    edit(root, namespace, |strategy| {
        strategy["chain-sync"]["id"] = value(PAUSER);
        strategy["chain-sync"]["settings"]["mode"] = value(mode);
    })
}

/// Edits `[strategy]` of a namespace's ns_static.toml.
pub fn edit(root: &Path, namespace: &str, change: impl FnOnce(&mut Item)) -> Result<()> {
    let file = root.join(format!("configuration/{namespace}/ns_static.toml"));
    let mut text: DocumentMut = std::fs::read_to_string(&file)?.parse()?;
    change(&mut text["strategy"]);
    Ok(std::fs::write(file, text.to_string())?)
}

/// Of a file, hex.
pub fn sha256(file: &Path) -> Result<String> {
    let output = Command::new("sha256sum").arg(file).output()?;
    let text = String::from_utf8(output.stdout)?;
    Ok(text
        .split_whitespace()
        .next()
        .context("sha256sum printed nothing")?
        .to_owned())
}
