//! The contract file loads as it stands, and says what its comments say.
use nva_config::{Source, load};

fn contract() -> Source {
    Source { path: "nva.yaml".into(), text: include_bytes!("contract.yaml").to_vec() }
}

#[test]
fn loads() {
    let config = load(&[contract()], None)
        .unwrap_or_else(|p| panic!("{}", p.iter().map(|p| format!("{p}\n")).collect::<String>()));
    println!("{config:#?}");
}
