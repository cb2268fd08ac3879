//! Walks the tree of a file and says it in the model's types. Notes every problem and goes on with a stand-in, so
//! that one look at a file finds all that is wrong; what it made is only used when nothing was.

mod action;
mod fields;
mod leaf;
mod limits;
mod listener;
mod load_balancer;
mod rule;
mod target_group;

use std::path::{Path, PathBuf};

use self::fields::Fields;
use super::field_path::FieldPath;
use super::problem::Severity;
use super::shapes;
use super::yaml::{self, Node, Position, Value};
use crate::model;

/// What one pass over a file gives.
#[derive(Debug)]
pub(super) struct Reading {
    /// Whole when `problems` holds no error; otherwise with stand-ins. None when there is nothing to look at.
    pub(super) config: Option<model::Config>,
    pub(super) problems: Vec<Found>,
    /// Where each value stands.
    pub(super) places: Places,
    /// Where the model holds something else than the file says.
    pub(super) stand_ins: Vec<FieldPath>,
}

/// A problem that the file itself shows.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) severity: Severity,
    pub(super) path: FieldPath,
    pub(super) position: Position,
    pub(super) message: String,
    pub(super) remedy: String,
}

/// Where each value of a file stands: the file as a tree, looked through only for what there is to say of it.
#[derive(Debug, Default)]
pub(super) struct Places {
    root: Option<Node>,
}

/// What a file that writes `forward: web` has no words for. It is `forward.target_groups[0].name` to the model.
const SHORT_FORMS: [&str; 2] = [".target_groups", ".target_groups[0].name"];

impl Places {
    /// How the file spells this path, and where it stands; an absent field stands where its object does.
    pub(super) fn find(&self, path: &FieldPath) -> (FieldPath, Position) {
        let Some(root) = &self.root else {
            return (path.clone(), Position::START);
        };
        let (node, rest) = descend(root, path.as_str());
        let short = matches!(node.value, Value::Scalar(_)) && SHORT_FORMS.contains(&rest);
        let written = match short.then(|| path.as_str().strip_suffix(rest)).flatten() {
            Some(short) => FieldPath::written(short),
            None => path.clone(),
        };
        (written, node.position)
    }
}

/// The last value on the way that the file has, and the rest of the way.
fn descend<'n, 'p>(mut node: &'n Node, mut rest: &'p str) -> (&'n Node, &'p str) {
    while let Some((below, after)) = step(node, rest) {
        (node, rest) = (below, after);
    }
    (node, rest)
}

/// The first step of the way, and what comes after it; none where the file has nothing there, or at the end.
fn step<'n, 'p>(node: &'n Node, way: &'p str) -> Option<(&'n Node, &'p str)> {
    match &node.value {
        Value::Null | Value::Scalar(_) => None,
        Value::Sequence(nodes) => {
            let (index, after) = way.strip_prefix('[')?.split_once(']')?;
            Some((nodes.get(index.parse::<usize>().ok()?)?, after))
        }
        Value::Mapping(entries) => {
            let way = way.strip_prefix('.').unwrap_or(way);
            let (name, after) = way.split_at(way.find(['.', '[']).unwrap_or(way.len()));
            let entry = entries.iter().find(|entry| entry.key == name)?;
            Some((&entry.node, after))
        }
    }
}

/// Reads a whole file; its relative paths start at `folder`.
pub(super) fn document(text: &str, folder: &Path) -> Reading {
    let document = yaml::parse(text);
    let mut reader = Reader {
        folder: folder.to_owned(),
        problems: Vec::new(),
        stand_ins: Vec::new(),
    };
    let root = FieldPath::root();
    for fault in &document.faults {
        reader.problem(&root, fault.position, &fault.message, &fault.remedy);
    }
    let config = match &document.root {
        Some(Node {
            value: Value::Null, ..
        })
        | None
            if document.faults.is_empty() =>
        {
            reader.problem(
                &root,
                Position::START,
                "there is nothing in the file",
                "write at least 'listeners' ('albedo schema' describes every field)",
            );
            None
        }
        None => None,
        Some(node) => Some(reader.configuration(node)),
    };
    Reading {
        config,
        problems: reader.problems,
        places: Places {
            root: document.root,
        },
        stand_ins: reader.stand_ins,
    }
}

/// The walk over one file.
pub(super) struct Reader {
    folder: PathBuf,
    problems: Vec<Found>,
    stand_ins: Vec<FieldPath>,
}

impl Reader {
    fn configuration(&mut self, node: &Node) -> model::Config {
        let fields = self.object(node, &FieldPath::root(), &shapes::CONFIGURATION);
        model::Config {
            admin: self.admin(&fields),
            workers: self.leaf(&fields, "workers").unwrap_or_default(),
            shutdown: self.shutdown(&fields),
            limits: self.limits(&fields),
            load_balancer: self.load_balancer(&fields),
            listeners: self
                .list(&fields, "listeners")
                .into_iter()
                .map(|(node, path)| self.listener(node, &path))
                .collect(),
            target_groups: self
                .list(&fields, "target_groups")
                .into_iter()
                .map(|(node, path)| self.target_group(node, &path))
                .collect(),
        }
    }

    fn admin(&mut self, fields: &Fields<'_>) -> model::AdminAddress {
        match self.leaf(fields, "admin").unwrap_or_default() {
            model::AdminAddress::Unix(path) => model::AdminAddress::Unix(self.folder.join(path)),
            address @ model::AdminAddress::Tcp(_) => address,
        }
    }

    fn shutdown(&mut self, parent: &Fields<'_>) -> model::Shutdown {
        let default = model::Shutdown::default();
        let Some(node) = parent.get("shutdown") else {
            return default;
        };
        let fields = &self.object(node, &parent.path_of("shutdown"), &shapes::SHUTDOWN);
        model::Shutdown {
            delay: self.duration(fields, "delay").unwrap_or(default.delay),
            timeout: self.duration(fields, "timeout").unwrap_or(default.timeout),
        }
    }

    fn problem(
        &mut self,
        path: &FieldPath,
        position: Position,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.found(Severity::Error, path, position, message, remedy);
    }

    fn warning(
        &mut self,
        path: &FieldPath,
        position: Position,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.found(Severity::Warning, path, position, message, remedy);
    }

    /// Notes that nothing can be concluded from what the model holds here.
    fn stand_in(&mut self, path: &FieldPath) {
        self.stand_ins.push(path.clone());
    }

    fn found(
        &mut self,
        severity: Severity,
        path: &FieldPath,
        position: Position,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        if severity == Severity::Error && *path != FieldPath::root() {
            self.stand_in(path);
        }
        self.problems.push(Found {
            severity,
            path: path.clone(),
            position,
            message: message.into(),
            remedy: remedy.into(),
        });
    }
}
