//! The offline commands as their users call them: the binary, its exit codes, what it prints and what it leaves behind.

mod capture;
mod check;
mod diff;
mod explain;
mod import;
mod replay;
mod usage;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Two ports, a route, and a group that lets one service in.
const CONFIG: &str = r#"version: 1
ports:
  - {name: outside, driver: af_packet, device: eth1, addresses: [192.0.2.1/24], trust: untrusted}
  - {name: inside, driver: af_packet, device: eth2, addresses: [10.0.0.1/24], trust: trusted}
routes:
  - {to: 0.0.0.0/0, via: 192.0.2.254}
neighbors:
  - {address: 192.0.2.254, mac: "02:00:00:00:71:fe"}
  - {address: 10.0.0.4, mac: "02:00:00:00:02:04"}
virtual_network:
  address_space: [10.0.0.0/8]
  subnets:
    - {name: web, prefixes: [10.0.0.0/24], security_group: web-nsg}
security_groups:
  - name: web-nsg
    rules:
      - {name: allow-web, priority: 100, direction: inbound, access: allow, protocol: udp, source: [Internet], source_ports: ["*"], destination: ["*"], destination_ports: [53]}
load_balancers:
  - name: public
    frontends: [{name: vip, address: 192.0.2.10}]
    pools: [{name: web, backends: [{name: web-1, address: 10.0.0.4}]}]
    rules: [{name: dns, frontend: vip, protocol: udp, port: 53, pool: web}]
"#;

/// A folder of one test's own, with [`CONFIG`] in `nva.yaml`; gone with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("nva-offline-{}-{test}", std::process::id()));
        fs::create_dir_all(&path).expect("a folder in the temporary folder");
        let folder = Self(path);
        folder.write("nva.yaml", CONFIG);
        folder
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.0.join(name), content).expect("the test's own folder is writable");
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.0.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    fn has(&self, name: &str) -> bool {
        self.0.join(name).exists()
    }

    /// Names in a folder, sorted.
    fn names(&self, name: &str) -> Vec<String> {
        let entries = fs::read_dir(self.0.join(name)).expect("a folder");
        let mut names: Vec<String> =
            entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// Runs `nva` in the folder.
    fn nva(&self, line: &str) -> Ran {
        let mut command = Command::new(Path::new(env!("CARGO_BIN_EXE_nva")));
        command.current_dir(&self.0).args(line.split_whitespace());
        Ran(command.output().expect("the binary under test starts"))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What a run of the binary came to.
struct Ran(Output);

impl Ran {
    fn code(&self) -> Option<i32> {
        self.0.status.code()
    }

    fn out(&self) -> String {
        String::from_utf8_lossy(&self.0.stdout).into_owned()
    }

    fn err(&self) -> String {
        String::from_utf8_lossy(&self.0.stderr).into_owned()
    }

    fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.0.stdout).unwrap_or_else(|error| panic!("{error} in {}", self.out()))
    }

    /// Asserts the exit code, and that standard error says this.
    #[track_caller]
    fn fails(&self, code: i32, says: &str) {
        assert_eq!(self.code(), Some(code), "{}", self.err());
        assert!(self.err().contains(says), "`{says}` is not in: {}", self.err());
    }

    /// Asserts exit code 0.
    #[track_caller]
    fn succeeds(&self) {
        assert_eq!(self.code(), Some(0), "{}", self.err());
    }
}
