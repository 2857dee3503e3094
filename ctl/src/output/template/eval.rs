//! Walks the tree of a template over a value.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::{
    OPEN_FIELDS, TemplateError,
    function::Function,
    parse::{Expr, Node},
    show,
};

/// What the template is rendered over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// A value.
    Value,
    /// The titles of a table's columns.
    Heading,
}

/// A value met on the way, and whether people chose its keys.
#[derive(Clone, Debug)]
struct Item<'a> {
    value: Cow<'a, Value>,
    open: bool,
}

impl<'a> Item<'a> {
    fn of(value: Cow<'a, Value>) -> Self {
        Self { value, open: false }
    }
}

/// The text of `nodes` over `root`.
///
/// # Errors
/// An unknown field or variable, or a function given what it cannot use.
pub(super) fn render(nodes: &[Node], root: &Value, mode: Mode) -> Result<String, TemplateError> {
    let root = Item::of(Cow::Borrowed(root));
    let mut walk = Walk { variables: vec![(String::new(), root.clone())], mode, out: String::new() };
    walk.nodes(nodes, &root)?;
    Ok(walk.out)
}

struct Walk<'a> {
    /// Innermost last; the first is `$`.
    variables: Vec<(String, Item<'a>)>,
    mode: Mode,
    out: String,
}

impl<'a> Walk<'a> {
    fn nodes(&mut self, nodes: &[Node], dot: &Item<'a>) -> Result<(), TemplateError> {
        let outer = self.variables.len();
        for node in nodes {
            self.node(node, dot)?;
        }
        self.variables.truncate(outer);
        Ok(())
    }

    fn node(&mut self, node: &Node, dot: &Item<'a>) -> Result<(), TemplateError> {
        match node {
            Node::Text(text) => self.out.push_str(text),
            Node::Print(expr) => {
                let item = self.expr(expr, dot)?;
                show::print(&mut self.out, &item.value);
            }
            Node::If { condition, then, otherwise } => {
                let holds = show::is_true(&self.expr(condition, dot)?.value);
                self.nodes(if holds { then } else { otherwise }, dot)?;
            }
            Node::With { variable, value, body, otherwise } => {
                let item = self.expr(value, dot)?;
                if !show::is_true(&item.value) {
                    return self.nodes(otherwise, dot);
                }
                let outer = self.variables.len();
                self.variables.extend(variable.clone().map(|name| (name, item.clone())));
                self.nodes(body, &item)?;
                self.variables.truncate(outer);
            }
            Node::Range { key, value, over, body, otherwise } => {
                let elements = elements(self.expr(over, dot)?)?;
                if elements.is_empty() {
                    return self.nodes(otherwise, dot);
                }
                for (at, element) in elements {
                    let outer = self.variables.len();
                    self.variables.extend(key.clone().map(|name| (name, Item::of(Cow::Owned(at)))));
                    self.variables.extend(value.clone().map(|name| (name, element.clone())));
                    self.nodes(body, &element)?;
                    self.variables.truncate(outer);
                }
            }
            Node::Set { variable, declare, value } => {
                let item = self.expr(value, dot)?;
                match self.variables.iter_mut().rfind(|(name, _item)| name == variable) {
                    _ if *declare => self.variables.push((variable.clone(), item)),
                    Some((_name, place)) => *place = item,
                    None => return Err(undefined(variable)),
                }
            }
        }
        Ok(())
    }

    fn expr(&self, expr: &Expr, dot: &Item<'a>) -> Result<Item<'a>, TemplateError> {
        match expr {
            Expr::Dot => Ok(dot.clone()),
            Expr::Literal(value) => Ok(Item::of(Cow::Owned(value.clone()))),
            Expr::Variable(name) => {
                let found = self.variables.iter().rfind(|(known, _item)| known == name);
                found.map(|(_name, item)| item.clone()).ok_or_else(|| undefined(name))
            }
            Expr::Fields(base, names) => {
                names.iter().try_fold(self.expr(base, dot)?, |item, name| field(item, name))
            }
            Expr::Call(function, arguments) => {
                let values = arguments
                    .iter()
                    .map(|argument| Ok(self.expr(argument, dot)?.value))
                    .collect::<Result<Vec<_>, TemplateError>>()?;
                // A column's title is no data: `{{json .Name}}` is headed NAME, without quotes.
                if self.mode == Mode::Heading && *function == Function::Json {
                    return Ok(Item::of(values.into_iter().next().unwrap_or_default()));
                }
                function.call(values).map(|value| Item::of(Cow::Owned(value)))
            }
        }
    }
}

fn undefined(variable: &str) -> TemplateError {
    TemplateError::new(format!(
        "variable ${variable} is not defined: expected {{{{${variable} := …}}}} before"
    ))
}

fn field<'a>(item: Item<'a>, name: &str) -> Result<Item<'a>, TemplateError> {
    let found = match &item.value {
        Cow::Borrowed(value) => value.get(name).map(Cow::Borrowed),
        Cow::Owned(value) => value.get(name).cloned().map(Cow::Owned),
    };
    if let Some(value) = found {
        return Ok(Item { value, open: OPEN_FIELDS.contains(&name) });
    }
    match &*item.value {
        Value::Object(_) if item.open => Ok(Item::of(Cow::Owned(Value::Null))),
        Value::Object(fields) => Err(unknown_field(fields, name)),
        Value::Null => Ok(item),
        Value::Array(_) => Err(TemplateError::new(format!(
            ".{name}: this is a list; use {{{{range …}}}}, {{{{index … 0}}}} or {{{{len …}}}}"
        ))),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            Err(TemplateError::new(format!(".{name}: {:?} has no fields", show::text(&item.value))))
        }
    }
}

fn unknown_field(fields: &Map<String, Value>, name: &str) -> TemplateError {
    const SHOWN: usize = 40;
    let mut known: Vec<String> = fields.keys().take(SHOWN).map(|field| format!(".{field}")).collect();
    if fields.len() > SHOWN {
        known.push("…".into());
    }
    TemplateError::new(format!("unknown field .{name}: there are {}", known.join(", ")))
}

/// What `{{range}}` goes over, with each key or position.
fn elements(item: Item<'_>) -> Result<Vec<(Value, Item<'_>)>, TemplateError> {
    let owned = |value| Item::of(Cow::Owned(value));
    let borrowed = |value| Item::of(Cow::Borrowed(value));
    Ok(match item.value {
        Cow::Borrowed(Value::Array(list)) => {
            list.iter().enumerate().map(|(at, value)| (at.into(), borrowed(value))).collect()
        }
        Cow::Borrowed(Value::Object(map)) => {
            map.iter().map(|(key, value)| (key.clone().into(), borrowed(value))).collect()
        }
        Cow::Owned(Value::Array(list)) => {
            list.into_iter().enumerate().map(|(at, value)| (at.into(), owned(value))).collect()
        }
        Cow::Owned(Value::Object(map)) => {
            map.into_iter().map(|(key, value)| (key.into(), owned(value))).collect()
        }
        Cow::Borrowed(Value::Null) | Cow::Owned(Value::Null) => Vec::new(),
        other @ (Cow::Borrowed(_) | Cow::Owned(_)) => {
            return Err(TemplateError::new(format!(
                "{{{{range}}}} cannot go over {:?}: expected a list or a map",
                show::text(&other)
            )));
        }
    })
}
