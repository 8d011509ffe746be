//! Usage: exit code 2 for what is not understood, help for those who ask.

use crate::Folder;

#[test]
fn bad_usage_is_exit_code_2() {
    let folder = Folder::new("usage");
    for line in [
        "",
        "forward",
        "check",
        "import azure",
        "diff",
        "diff --config nva.yaml",
        "show weather",
        "replay --config nva.yaml",
    ] {
        let ran = folder.nva(line);
        assert_eq!(ran.code(), Some(2), "nva {line}");
        assert!(!ran.err().is_empty() && ran.out().is_empty(), "nva {line}");
    }
}

#[test]
fn help_is_on_standard_output_and_teaches_by_example() {
    let folder = Folder::new("help");
    for line in [
        "--help",
        "run --help",
        "check --help",
        "explain --help",
        "replay --help",
        "diff --help",
        "import azure --help",
        "demo --help",
        "show --help",
        "ports release --help",
    ] {
        let ran = folder.nva(line);
        ran.succeeds();
        assert!(ran.out().contains("Examples:") && ran.out().contains("nva "), "nva {line}");
    }
}

#[test]
fn what_is_no_terminal_gets_no_colour() {
    let folder = Folder::new("colour");
    assert!(!folder.nva("check --config nva.yaml").out().contains('\x1b'));
    assert!(!folder.nva("check").err().contains('\x1b'));
}
