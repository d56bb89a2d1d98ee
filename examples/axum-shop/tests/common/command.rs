//! The operator's command.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Runs `sealed-session` with the shop's settings; what it prints.
#[track_caller]
pub fn operate(arguments: &[&str], config: &Path) -> String {
    let output = Command::new(sealed_session())
        .args(arguments)
        .arg("--config")
        .arg(config)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {told}");
    String::from_utf8(output.stdout).unwrap()
}

/// The command, built on the first use beside the shop.
fn sealed_session() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let beside = Path::new(env!("CARGO_BIN_EXE_axum-shop")).parent().unwrap();
        let status = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "-p", "sealed-session", "--features", "cli,sqlite"])
            .args(["--bin", "sealed-session", "--target-dir"])
            .arg(beside.parent().unwrap())
            .args(beside.ends_with("release").then_some("--release"))
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status()
            .unwrap();
        assert!(status.success(), "the command sealed-session does not build");
        beside.join("sealed-session")
    })
}
