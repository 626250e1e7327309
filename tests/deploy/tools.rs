//! Programs of other projects, and the package to install if one is missing.

use super::root;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::process::{Command, Output};

/// A program from a Debian package.
pub fn packaged(program: &str, package: &str) -> Tool {
    Tool {
        command: Command::new(program),
        program: program.into(),
        install: format!("apt-get install {package}"),
    }
}

/// A program from target/deploy-tools.
pub fn python_package(program: &str) -> Tool {
    let path: PathBuf = root().join("target/deploy-tools/bin").join(program);
    Tool { command: Command::new(&path), program: path, install: "run scripts/deploy-tools".to_owned() }
}

pub struct Tool {
    command: Command,
    program: PathBuf,
    install: String,
}

impl Tool {
    pub fn args<S: AsRef<std::ffi::OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Tool {
        self.command.args(args);
        self
    }

    /// Runs it and returns its output and status.
    pub fn output(mut self) -> Output {
        self.command.output().unwrap_or_else(|error| match error.kind() {
            ErrorKind::NotFound => panic!("{} is missing: {}", self.program.display(), self.install),
            _ => panic!("{}: {error}", self.program.display()),
        })
    }

    /// Runs it and returns its standard output. It must succeed.
    pub fn succeed(self) -> String {
        let program = self.program.clone();
        let output = self.output();
        let stderr = String::from_utf8_lossy(&output.stderr);
        let stdout = String::from_utf8(output.stdout).expect("UTF-8");
        assert!(output.status.success(), "{}: {}\n{stdout}{stderr}", program.display(), output.status);
        stdout
    }
}
