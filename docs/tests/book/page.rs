//! The pages of the book, as mdBook reads them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use pulldown_cmark::{BrokenLink, CodeBlockKind, CowStr, Event, LinkType, Options, Parser, Tag, TagEnd};

/// How links to files of the project begin, which work in the book, on GitHub and in the documentation of a crate.
pub(crate) const REPOSITORY: &str = "https://github.com/parti-rs/parti/blob/main/";

/// One document: a page of the book, or another file in Markdown.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) path: PathBuf,
    pub(crate) links: Vec<Link>,
    /// What a link can name behind `#`.
    pub(crate) anchors: BTreeSet<String>,
    pub(crate) blocks: Vec<Block>,
}

#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) target: String,
    /// The name of its definition, where it has one.
    pub(crate) label: String,
}

/// Code between fences.
#[derive(Debug)]
pub(crate) struct Block {
    /// What follows the fence, such as `rust,no_run`.
    pub(crate) info: String,
    pub(crate) text: String,
}

impl Block {
    pub(crate) fn language(&self) -> &str {
        self.info.split([',', ' ']).next().unwrap_or_default()
    }
}

/// The folder of the project.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the project's folder")
}

/// All pages of the book, with what they include.
pub(crate) fn book() -> Vec<Page> {
    let folder = root().join("docs/src");
    let mut paths: Vec<_> =
        fs::read_dir(&folder).expect("the pages").map(|entry| entry.expect("a page").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    paths.sort();
    assert!(paths.len() > 15, "{paths:?}");
    paths.iter().map(|path| Page::read(path)).collect()
}

impl Page {
    pub(crate) fn read(path: &Path) -> Self {
        let written = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let text = with_includes(path, &written);
        let mut page =
            Self { path: path.to_path_buf(), links: Vec::new(), anchors: BTreeSet::new(), blocks: Vec::new() };
        page.parse(&text);
        page
    }

    pub(crate) fn name(&self) -> String {
        self.path.strip_prefix(root()).unwrap_or(&self.path).display().to_string()
    }

    fn parse(&mut self, text: &str) {
        // A link in brackets whose definition is missing is no link to Markdown: here it is one that leads nowhere.
        let path = self.path.clone();
        let mut missing = |link: BrokenLink<'_>| -> Option<(CowStr<'_>, CowStr<'_>)> {
            panic!("{}: [{}] has no definition", path.display(), link.reference)
        };
        let options = Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH;
        let (mut heading, mut block) = (None::<String>, None::<Block>);
        for event in Parser::new_with_broken_link_callback(text, options, Some(&mut missing)) {
            match event {
                Event::Start(Tag::Link { link_type, dest_url, id, .. }) => {
                    assert!(link_type != LinkType::Email, "{}", self.name());
                    self.links.push(Link { target: dest_url.into_string(), label: id.into_string() });
                }
                Event::Start(Tag::Image { dest_url, .. }) => {
                    self.links.push(Link { target: dest_url.into_string(), label: String::new() });
                }
                Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
                Event::End(TagEnd::Heading(_)) => self.add_anchor(&heading.take().unwrap_or_default()),
                Event::Start(Tag::CodeBlock(kind)) => {
                    let CodeBlockKind::Fenced(info) = kind else { panic!("{}: code is fenced", self.name()) };
                    block = Some(Block { info: info.into_string(), text: String::new() });
                }
                Event::End(TagEnd::CodeBlock) => self.blocks.extend(block.take()),
                Event::Text(text) | Event::Code(text) => {
                    if let Some(block) = &mut block {
                        block.text.push_str(&text);
                    } else if let Some(heading) = &mut heading {
                        heading.push_str(&text);
                    }
                }
                _ => {}
            }
        }
    }

    /// As mdBook and GitHub name a heading.
    fn add_anchor(&mut self, heading: &str) {
        let kept = |letter: char| match letter {
            letter if letter.is_alphanumeric() || letter == '-' || letter == '_' => Some(letter.to_ascii_lowercase()),
            ' ' => Some('-'),
            _ => None,
        };
        let anchor: String = heading.trim().chars().filter_map(kept).collect();
        self.anchors.insert(anchor);
    }
}

/// The text with `{{#include file}}` and `{{#include file:anchor}}` replaced as mdBook does it.
fn with_includes(path: &Path, text: &str) -> String {
    let mut whole = String::new();
    for line in text.lines() {
        let included = line.trim().strip_prefix("{{#include ").and_then(|rest| rest.strip_suffix("}}"));
        match included {
            Some(what) => whole.push_str(&include(path, what)),
            None => whole.push_str(line),
        }
        whole.push('\n');
    }
    whole
}

fn include(path: &Path, what: &str) -> String {
    let (file, anchor) = what.split_once(':').map_or((what, None), |(file, anchor)| (file, Some(anchor)));
    let file = path.parent().expect("a page is in a folder").join(file);
    let text =
        fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {}: {error}", path.display(), file.display()));
    let Some(anchor) = anchor else { return text };
    let between = text.split_once(&format!("<!-- ANCHOR: {anchor} -->")).and_then(|(_, rest)| {
        rest.split_once(&format!("<!-- ANCHOR_END: {anchor} -->")).map(|(between, _)| between.to_owned())
    });
    between.unwrap_or_else(|| panic!("{}: {} has no anchor {anchor:?}", path.display(), file.display()))
}
