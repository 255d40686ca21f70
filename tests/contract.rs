//! The pages that say which test proves what: every test that they name exists. That each of them ran is checked at the
//! end of `make test` (tools/ran.sh).

use std::path::Path;

/// Pairs of file and test that a text names, as in `tests/bounds.rs`: `a_test`, `another_test`. Names of tests are
/// sentences; what has fewer underscores is the name of a field.
fn named_tests(text: &str, least_underscores: usize) -> Vec<(String, String)> {
    let mut named = Vec::new();
    let mut file = None;
    for piece in text.split('`').skip(1).step_by(2) {
        let is_name = piece.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        if piece.starts_with("tests/") && piece.ends_with(".rs") {
            file = Some(piece.to_string());
        } else if let Some(file) = file.as_ref().filter(|_| is_name && piece.matches('_').count() >= least_underscores)
        {
            named.push((file.clone(), piece.to_string()));
        }
    }
    named
}

/// The named tests that are not there.
fn missing(root: &Path, named: &[(String, String)]) -> Vec<String> {
    let is_there = |(file, test): &&(String, String)| {
        std::fs::read_to_string(root.join(file)).is_ok_and(|text| text.contains(&format!("fn {test}(")))
    };
    named.iter().filter(|pair| !is_there(pair)).map(|(file, test)| format!("{file} has no {test}")).collect()
}

#[test]
fn every_promise_of_the_contract_names_a_test_that_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("docs/contract.md")).unwrap();
    let is_promise =
        |line: &&str| line.starts_with("| ") && !line.starts_with("| promise") && !line.starts_with("| ---");
    let promises: Vec<&str> = page.lines().filter(is_promise).collect();
    assert!(promises.len() > 35, "only {} promises were found", promises.len());
    for promise in &promises {
        let named = named_tests(promise.split(" | ").nth(1).unwrap(), 3);
        assert!(!named.is_empty(), "no test for: {promise}");
        assert_eq!(missing(root, &named), Vec::<String>::new());
    }
}

#[test]
fn every_test_that_another_page_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("docs/what-happens-when.md")).unwrap();
    let named = named_tests(&page, 4);
    assert!(named.len() >= 20, "only {} tests are named", named.len());
    assert_eq!(missing(root, &named), Vec::<String>::new());
}

#[test]
fn a_test_that_is_not_there_is_noticed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let named =
        named_tests("`tests/contract.rs`: `a_test_that_nobody_ever_wrote`; `tests/no.rs`: `nor_this_one_here`", 3);
    assert_eq!(missing(root, &named).len(), 2);
}
