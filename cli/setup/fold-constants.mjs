// Constants that are known when the project is compiled stand as numbers in what is compiled. V8 reads an imported constant
// from its module's cell at each use, and a member of a frozen table from the table: docs/decisions/0019.
import ts from 'typescript';

const BINARY = new Map([
  [ts.SyntaxKind.PlusToken, (a, b) => a + b],
  [ts.SyntaxKind.MinusToken, (a, b) => a - b],
  [ts.SyntaxKind.AsteriskToken, (a, b) => a * b],
  [ts.SyntaxKind.SlashToken, (a, b) => a / b],
  [ts.SyntaxKind.AsteriskAsteriskToken, (a, b) => a ** b],
  [ts.SyntaxKind.LessThanLessThanToken, (a, b) => a << b],
  [ts.SyntaxKind.GreaterThanGreaterThanToken, (a, b) => a >> b],
  [ts.SyntaxKind.GreaterThanGreaterThanGreaterThanToken, (a, b) => a >>> b],
  [ts.SyntaxKind.AmpersandToken, (a, b) => a & b],
  [ts.SyntaxKind.BarToken, (a, b) => a | b],
  [ts.SyntaxKind.CaretToken, (a, b) => a ^ b],
]);
const UNARY = new Map([
  [ts.SyntaxKind.MinusToken, (a) => -a],
  [ts.SyntaxKind.PlusToken, (a) => a],
  [ts.SyntaxKind.TildeToken, (a) => ~a],
]);

/** `as const`, `satisfies`, brackets and Object.freeze change nothing of a value. */
function bare(expression) {
  let inner = unwrapped(expression);
  while (isFreeze(inner)) inner = unwrapped(inner.arguments[0]);
  return inner;
}

function isFreeze(node) {
  return ts.isCallExpression(node) && node.arguments.length === 1 && node.expression.getText() === 'Object.freeze';
}

/** What expressions are known to be. */
class Constants {
  #checker;
  #known = new Map();

  constructor(checker) {
    this.#checker = checker;
  }

  /** @returns a number, or undefined if it is not known */
  number(expression) {
    const node = bare(expression);
    if (ts.isNumericLiteral(node)) return Number(node.text);
    if (ts.isPrefixUnaryExpression(node)) {
      const value = this.number(node.operand);
      return value === undefined ? undefined : UNARY.get(node.operator)?.(value);
    }
    if (ts.isBinaryExpression(node)) {
      const operation = BINARY.get(node.operatorToken.kind);
      if (operation === undefined) return undefined;
      const left = this.number(node.left);
      const right = left === undefined ? undefined : this.number(node.right);
      return right === undefined ? undefined : operation(left, right);
    }
    if (ts.isIdentifier(node)) return this.#ofDeclaration(this.#declaration(node));
    if (ts.isPropertyAccessExpression(node)) return this.#member(node);
    return undefined;
  }

  #member(node) {
    if (!ts.isIdentifier(node.expression) || node.questionDotToken) return undefined;
    const declaration = this.#declaration(node.expression);
    if (declaration === undefined) return undefined;
    const table = unwrapped(declaration.initializer);
    if (!ts.isCallExpression(table)) return undefined;
    const { text: member } = node.name;
    // Only what is closed for good: any other object may change.
    if (isFreeze(table)) return this.#property(table.arguments[0], member);
    if (this.#calls(table, 'constants')) return this.#property(table.arguments[1], member);
    if (!this.#calls(table, 'struct')) return undefined;
    if (member === 'SIZE') return this.#property(table.arguments[0], 'size');
    const field = property(table.arguments[1], member);
    return field !== undefined && ts.isCallExpression(field) ? this.number(field.arguments[0]) : undefined;
  }

  /** Whether a call makes one of the tables of shim/abi, which are frozen objects, too. */
  #calls(call, name) {
    if (!ts.isIdentifier(call.expression) || call.expression.text !== name) return false;
    return this.#meant(call.expression)?.getSourceFile().fileName.endsWith(`/shim/abi/${name}.ts`) === true;
  }

  #property(table, name) {
    const value = property(table, name);
    return value === undefined ? undefined : this.number(value);
  }

  /** What an identifier was declared as, imported or not. */
  #meant(identifier) {
    const symbol = this.#checker.getSymbolAtLocation(identifier);
    const imported = symbol !== undefined && (symbol.flags & ts.SymbolFlags.Alias) !== 0;
    return (imported ? this.#checker.getAliasedSymbol(symbol) : symbol)?.valueDeclaration;
  }

  /** The `const` an identifier names, wherever it was imported from. */
  #declaration(identifier) {
    const declaration = this.#meant(identifier);
    if (declaration === undefined || !ts.isVariableDeclaration(declaration) || declaration.initializer === undefined) return undefined;
    const isConst = (ts.getCombinedNodeFlags(declaration) & ts.NodeFlags.BlockScoped) === ts.NodeFlags.Const;
    // Of a file of ours, and of the module itself: what is inside a function is the compiler's own business.
    const top = ts.isSourceFile(declaration.parent.parent.parent) && !declaration.getSourceFile().isDeclarationFile;
    return isConst && top ? declaration : undefined;
  }

  #ofDeclaration(declaration) {
    if (declaration === undefined) return undefined;
    if (!this.#known.has(declaration)) {
      // A constant defined by itself is not one.
      this.#known.set(declaration, undefined);
      this.#known.set(declaration, this.number(declaration.initializer));
    }
    return this.#known.get(declaration);
  }
}

/** What a member of an object literal is set to. */
function property(object, name) {
  const table = bare(object);
  if (!ts.isObjectLiteralExpression(table) || table.properties.some(ts.isSpreadAssignment)) return undefined;
  const found = table.properties.find((each) => each.name?.getText() === name);
  return found !== undefined && ts.isPropertyAssignment(found) ? found.initializer : undefined;
}

function unwrapped(expression) {
  while (ts.isParenthesizedExpression(expression) || ts.isAsExpression(expression) || ts.isSatisfiesExpression(expression)) {
    expression = expression.expression;
  }
  return expression;
}

function literal(factory, value) {
  if (Object.is(value, -0) || !Number.isFinite(value)) return undefined;
  const plain = factory.createNumericLiteral(Math.abs(value));
  return value < 0 ? factory.createParenthesizedExpression(factory.createPrefixUnaryExpression(ts.SyntaxKind.MinusToken, plain)) : plain;
}

/** Whether a name is used for its value here, and not to declare, export or label something. */
function isValue(node) {
  const { parent } = node;
  if (ts.isPropertyAccessExpression(parent)) return parent.expression === node;
  if (ts.isPropertyAssignment(parent) || ts.isVariableDeclaration(parent) || ts.isParameter(parent) || ts.isPropertyDeclaration(parent)) {
    return parent.initializer === node;
  }
  return ts.isBinaryExpression(parent) || ts.isPrefixUnaryExpression(parent) || ts.isCallExpression(parent) ||
    ts.isNewExpression(parent) || ts.isElementAccessExpression(parent) || ts.isReturnStatement(parent) ||
    ts.isConditionalExpression(parent) || ts.isParenthesizedExpression(parent) || ts.isCaseClause(parent) ||
    (ts.isArrowFunction(parent) && parent.body === node) || ts.isArrayLiteralExpression(parent);
}

/** A transformer for `emit`. */
export function foldConstants(program) {
  const constants = new Constants(program.getTypeChecker());
  return (context) => (file) => {
    const { factory } = context;
    const visit = (node) => {
      if (ts.isTypeNode(node) || ts.isImportDeclaration(node) || ts.isExportDeclaration(node)) return node;
      const candidate = ts.isIdentifier(node) || ts.isPropertyAccessExpression(node);
      if (candidate && node.parent !== undefined && isValue(node)) {
        const value = constants.number(node);
        const folded = value === undefined ? undefined : literal(factory, value);
        if (folded !== undefined) return folded;
      }
      return ts.visitEachChild(node, visit, context);
    };
    return ts.visitNode(file, visit);
  };
}
