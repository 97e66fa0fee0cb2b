//! Every link leads somewhere, as far as that can be seen without a network.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::page::{Link, Page, REPOSITORY, book, root};

#[test]
fn every_page_is_in_the_summary_once() {
    let summary = Page::read(&root().join("docs/src/SUMMARY.md"));
    let listed: Vec<_> = summary.links.iter().map(|link| link.target.clone()).collect();
    let unique: BTreeSet<_> = listed.iter().cloned().collect();
    assert_eq!(listed.len(), unique.len(), "a page is listed twice: {listed:?}");
    let name = |page: &Page| page.path.file_name().expect("it has a name").to_string_lossy().into_owned();
    let pages: BTreeSet<_> = book().iter().map(name).filter(|name| name != "SUMMARY.md").collect();
    assert_eq!(pages, unique);
}

#[test]
fn every_link_of_the_book_leads_somewhere() {
    let mut checked = 0;
    for page in book() {
        for link in &page.links {
            check(&page, link, &root().join("docs/src"));
            checked += 1;
        }
    }
    assert!(checked > 200, "only {checked} links were found");
}

#[test]
fn every_link_of_the_other_documents_leads_somewhere() {
    let documents = [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        ".github/SECURITY.md",
        ".github/CODE_OF_CONDUCT.md",
        "parti-core/README.md",
        "parti-nats/README.md",
        "parti-nats/OPERATIONS.md",
        "parti-nats/cli/README.md",
        "parti-sim/README.md",
    ];
    for document in documents {
        let page = Page::read(&root().join(document));
        for link in &page.links {
            // rustdoc sees to these.
            if !link.target.starts_with("crate::") {
                check(&page, link, &root());
            }
        }
    }
}

/// What is wrong with a link is a panic. Files that are given relative to the page must be in `within`: a book serves its
/// own pages alone.
fn check(page: &Page, link: &Link, within: &Path) {
    let (address, anchor) = link.target.split_once('#').unwrap_or((&link.target, ""));
    let target = match address.strip_prefix(REPOSITORY) {
        Some(path) => root().join(path),
        None if address.starts_with("https://github.com/parti-rs/parti/") => {
            panic!("{}: {} is no file of the branch that others see", page.name(), link.target)
        }
        None if address.starts_with("https://") => return,
        None if address.contains("://") || address.contains("::") => panic!("{}: {}", page.name(), link.target),
        None if address.is_empty() => page.path.clone(),
        None => local(page, address, within),
    };
    assert!(target.exists(), "{}: {} is not there", page.name(), link.target);
    if !anchor.is_empty() {
        let anchors = Page::read(&target).anchors;
        assert!(anchors.contains(anchor), "{}: {} has no such heading: {anchors:?}", page.name(), link.target);
    }
}

fn local(page: &Page, address: &str, within: &Path) -> PathBuf {
    let path = page.path.parent().expect("a page is in a folder").join(address);
    let path = fs::canonicalize(&path).unwrap_or_else(|error| panic!("{}: {address}: {error}", page.name()));
    assert!(path.starts_with(within), "{}: {address} is outside", page.name());
    path
}
