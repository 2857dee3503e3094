//! Builds the tree of a template from its pieces.

use std::vec;

use serde_json::Value;

use super::{
    MAX_DEPTH, TemplateError,
    function::Function,
    lex::{Piece, Spaced, Token},
};

/// A part of a template.
#[derive(Clone, Debug)]
pub(super) enum Node {
    /// Copied to the output.
    Text(String),
    /// `{{pipeline}}`
    Print(Expr),
    /// `{{if}}`
    If { condition: Expr, then: Vec<Node>, otherwise: Vec<Node> },
    /// `{{range}}`; the variables are those of `$k, $v :=` (one alone is the value).
    Range { key: Option<String>, value: Option<String>, over: Expr, body: Vec<Node>, otherwise: Vec<Node> },
    /// `{{with}}`
    With { variable: Option<String>, value: Expr, body: Vec<Node>, otherwise: Vec<Node> },
    /// `{{$x := pipeline}}`, or `=` for one that exists.
    Set { variable: String, declare: bool, value: Expr },
}

/// Something with a value.
#[derive(Clone, Debug)]
pub(super) enum Expr {
    /// `.`, `$` or `$x`
    Dot,
    Variable(String),
    Literal(Value),
    /// `base.Field.Field`
    Fields(Box<Expr>, Vec<String>),
    Call(Function, Vec<Expr>),
}

/// How a block ended.
enum Closing {
    EndOfText,
    End,
    /// With what followed the word `else`.
    Else(Vec<Spaced>),
}

/// The tree of `pieces`.
///
/// # Errors
/// Blocks that do not match, unknown words and functions, too deep nesting.
pub(super) fn parse(pieces: Vec<Piece>) -> Result<Vec<Node>, TemplateError> {
    let mut blocks = Blocks { pieces: pieces.into_iter(), depth: 0 };
    match blocks.block()? {
        (nodes, Closing::EndOfText) => Ok(nodes),
        (_nodes, Closing::End) => Err(TemplateError::new("{{end}} without {{if}}, {{range}} or {{with}}")),
        (_nodes, Closing::Else(_)) => {
            Err(TemplateError::new("{{else}} without {{if}}, {{range}} or {{with}}"))
        }
    }
}

struct Blocks {
    pieces: vec::IntoIter<Piece>,
    depth: usize,
}

impl Blocks {
    fn block(&mut self) -> Result<(Vec<Node>, Closing), TemplateError> {
        let mut nodes = Vec::new();
        while let Some(piece) = self.pieces.next() {
            let mut tokens = match piece {
                Piece::Text(text) => {
                    nodes.push(Node::Text(text));
                    continue;
                }
                Piece::Action(tokens) => tokens,
            };
            let word = match tokens.first().map(|first| &first.token) {
                Some(Token::Word(word)) => word.clone(),
                Some(_) => String::new(),
                None => return Err(TemplateError::new("{{}} is empty: expected a field such as {{.Name}}")),
            };
            match word.as_str() {
                "end" if tokens.len() == 1 => return Ok((nodes, Closing::End)),
                "end" => return Err(TemplateError::new("{{end}} takes nothing")),
                "else" => return Ok((nodes, Closing::Else(tokens.split_off(1)))),
                "if" | "range" | "with" => {
                    let node = self.nested(&word, tokens.split_off(1))?;
                    nodes.push(node);
                }
                _ => nodes.push(simple(tokens)?),
            }
        }
        Ok((nodes, Closing::EndOfText))
    }

    fn nested(&mut self, word: &str, tokens: Vec<Spaced>) -> Result<Node, TemplateError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(TemplateError::new(format!("blocks are nested deeper than {MAX_DEPTH}")));
        }
        let mut head = Tokens::new(tokens);
        let mut variables = head.declared()?;
        let expr = head.only_pipeline(word)?;
        let (body, closing) = self.block()?;
        let otherwise = self.otherwise(word, closing)?;
        self.depth -= 1;
        let last = variables.pop();
        match (word, last, variables.pop()) {
            ("range", value, key) => Ok(Node::Range { key, value, over: expr, body, otherwise }),
            ("with", variable, None) => Ok(Node::With { variable, value: expr, body, otherwise }),
            ("if", None, None) => Ok(Node::If { condition: expr, then: body, otherwise }),
            _ => Err(TemplateError::new(format!("{{{{{word}}}}} does not take these variables"))),
        }
    }

    fn otherwise(&mut self, word: &str, closing: Closing) -> Result<Vec<Node>, TemplateError> {
        let mut rest = match closing {
            Closing::End => return Ok(Vec::new()),
            Closing::EndOfText => {
                return Err(TemplateError::new(format!(
                    "{{{{{word}}}}} is not closed: expected {{{{end}}}}"
                )));
            }
            Closing::Else(rest) => rest,
        };
        match rest.first().map(|first| first.token.clone()) {
            None => match self.block()? {
                (nodes, Closing::End) => Ok(nodes),
                (_nodes, Closing::Else(_)) => Err(TemplateError::new("{{else}} after {{else}}")),
                (_nodes, Closing::EndOfText) => {
                    Err(TemplateError::new("{{else}} is not closed: expected {{end}}"))
                }
            },
            // `{{else if}}` shares the {{end}} of the outer block.
            Some(Token::Word(next)) if next == word && word != "range" => {
                Ok(vec![self.nested(word, rest.split_off(1))?])
            }
            Some(_) => {
                Err(TemplateError::new(format!("after {{{{{word}}}}} expected {{{{else}}}} or {{{{end}}}}")))
            }
        }
    }
}

fn simple(tokens: Vec<Spaced>) -> Result<Node, TemplateError> {
    let mut tokens = Tokens::new(tokens);
    if let Some(Token::Variable(variable)) = tokens.peek().cloned() {
        let declare = match tokens.peek_at(1) {
            Some(Token::Declare) => Some(true),
            Some(Token::Assign) => Some(false),
            _ => None,
        };
        if let Some(declare) = declare {
            tokens.at += 2;
            return Ok(Node::Set { variable, declare, value: tokens.only_pipeline(":=")? });
        }
    }
    Ok(Node::Print(tokens.only_pipeline("")?))
}

struct Tokens {
    tokens: Vec<Spaced>,
    at: usize,
    depth: usize,
}

impl Tokens {
    fn new(tokens: Vec<Spaced>) -> Self {
        Self { tokens, at: 0, depth: 0 }
    }

    fn peek(&self) -> Option<&Token> {
        self.peek_at(0)
    }

    fn peek_at(&self, ahead: usize) -> Option<&Token> {
        self.tokens.get(self.at + ahead).map(|spaced| &spaced.token)
    }

    /// The variables of `$x :=` or `$k, $v :=` at the start.
    fn declared(&mut self) -> Result<Vec<String>, TemplateError> {
        let mut variables = Vec::new();
        let mut at = 0;
        loop {
            match (self.peek_at(at), self.peek_at(at + 1)) {
                (Some(Token::Variable(name)), Some(Token::Comma)) if variables.is_empty() => {
                    variables.push(name.clone());
                }
                (Some(Token::Variable(name)), Some(Token::Declare)) => {
                    variables.push(name.clone());
                    self.at = at + 2;
                    return Ok(variables);
                }
                _ if variables.is_empty() => return Ok(variables),
                _ => return Err(TemplateError::new("expected {{range $key, $value := …}}")),
            }
            at += 2;
        }
    }

    /// The pipeline that is all that is left.
    fn only_pipeline(&mut self, word: &str) -> Result<Expr, TemplateError> {
        if self.peek().is_none() {
            return Err(TemplateError::new(format!("{{{{{word}}}}} needs a value")));
        }
        let expr = self.pipeline()?;
        match self.peek() {
            None => Ok(expr),
            Some(Token::Close) => Err(TemplateError::new("')' without '('")),
            Some(_) => Err(TemplateError::new("expected '|' after a value")),
        }
    }

    fn pipeline(&mut self) -> Result<Expr, TemplateError> {
        let mut expr = self.command(None)?;
        let mut stages = 1;
        while self.peek() == Some(&Token::Pipe) {
            stages += 1;
            if stages > MAX_DEPTH {
                return Err(TemplateError::new(format!("a pipeline has more than {MAX_DEPTH} stages")));
            }
            self.at += 1;
            expr = self.command(Some(expr))?;
        }
        Ok(expr)
    }

    /// A function with its arguments, or one operand. `piped` is the value before the `|`: the last argument.
    fn command(&mut self, piped: Option<Expr>) -> Result<Expr, TemplateError> {
        let name = match self.peek() {
            Some(Token::Word(name)) if !matches!(name.as_str(), "true" | "false" | "nil") => name.clone(),
            _ if piped.is_some() => {
                return Err(TemplateError::new("expected a function after '|', as in {{.Name | upper}}"));
            }
            _ => return self.operand(),
        };
        self.at += 1;
        let function = Function::named(&name)?;
        let mut arguments = Vec::new();
        while !matches!(self.peek(), None | Some(Token::Pipe | Token::Close)) {
            arguments.push(self.operand()?);
        }
        arguments.extend(piped);
        function.check_count(arguments.len())?;
        Ok(Expr::Call(function, arguments))
    }

    fn operand(&mut self) -> Result<Expr, TemplateError> {
        let token =
            self.peek().cloned().ok_or_else(|| TemplateError::new("a value is missing at the end"))?;
        self.at += 1;
        let mut fields = Vec::new();
        let base = match token {
            Token::Dot => Expr::Dot,
            Token::Field(name) => {
                fields.push(name);
                Expr::Dot
            }
            Token::Variable(name) => Expr::Variable(name),
            Token::Text(text) => Expr::Literal(Value::String(text)),
            Token::Number(number) => Expr::Literal(number.into()),
            Token::Word(word) => match word.as_str() {
                "true" | "false" => Expr::Literal(Value::Bool(word == "true")),
                "nil" => Expr::Literal(Value::Null),
                _ => {
                    let function = Function::named(&word)?;
                    function.check_count(0)?;
                    Expr::Call(function, Vec::new())
                }
            },
            Token::Open => self.group()?,
            Token::Declare | Token::Assign | Token::Pipe | Token::Comma | Token::Close => {
                return Err(TemplateError::new("expected a value such as .Name, got a sign"));
            }
        };
        // What follows without white space belongs to it.
        while let Some(Spaced { token: Token::Field(name), spaced: false }) = self.tokens.get(self.at) {
            fields.push(name.clone());
            self.at += 1;
        }
        Ok(if fields.is_empty() { base } else { Expr::Fields(Box::new(base), fields) })
    }

    fn group(&mut self) -> Result<Expr, TemplateError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(TemplateError::new(format!("parentheses are nested deeper than {MAX_DEPTH}")));
        }
        let inner = self.pipeline()?;
        if self.peek() != Some(&Token::Close) {
            return Err(TemplateError::new("'(' is not closed: expected ')'"));
        }
        self.at += 1;
        self.depth -= 1;
        Ok(inner)
    }
}
