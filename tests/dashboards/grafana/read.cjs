// Reads panels with Grafana's own functions: panels and their results in, what they show out (JSON).
const { readFileSync } = require('fs');
const { JSDOM } = require('jsdom');

const { window } = new JSDOM();
globalThis.window = window;
globalThis.document = window.document;
Object.defineProperty(globalThis, 'navigator', { value: window.navigator, configurable: true });

const data = require('@grafana/data');

const KINDS = { number: 'number', time: 'time', text: 'string', bool: 'boolean' };
const STANDARD = ['unit', 'decimals', 'noValue', 'min', 'max', 'mappings', 'thresholds', 'color', 'links'];
const property = (id, process) => ({ id, path: id, name: id, process, shouldApply: () => true });
const registry = new data.FieldConfigOptionsRegistry(() => [
  ...STANDARD.map((id) => property(id, data.identityOverrideProcessor)),
  property('displayName', data.displayNameOverrideProcessor),
]);
const theme = data.createTheme();
const replaceVariables = (text) => text;

function read({ panel, columns, rows }) {
  const frame = data.toDataFrame({
    fields: columns.map(({ name, kind }, place) => ({
      name,
      type: KINDS[kind],
      values: rows.map((row) => row[place]),
    })),
  });
  const { fieldConfig, options } = panel;
  const frames = data.applyFieldOverrides({
    data: [frame],
    fieldConfig,
    fieldConfigRegistry: registry,
    replaceVariables,
    theme,
    timeZone: 'utc',
  });
  const fields = frames[0].fields;
  const shown = {
    texts: fields.map((field) => field.values.map((value) => field.display(value).text)),
  };
  if (options.reduceOptions) {
    shown.values = data
      .getFieldDisplayValues({
        data: frames,
        fieldConfig,
        reduceOptions: options.reduceOptions,
        replaceVariables,
        theme,
        timeZone: 'utc',
      })
      .map(({ display }) => [
        display.title ?? null,
        Number.isNaN(display.numeric) ? display.text : display.numeric,
      ]);
  }
  if (options.legend?.calcs.length) {
    const reducers = options.legend.calcs;
    shown.legend = Object.fromEntries(
      fields
        .filter((field) => field.type === 'number')
        .map((field) => {
          const found = data.reduceField({ field, reducers });
          return [field.name, reducers.map((calc) => found[calc])];
        })
    );
  }
  return shown;
}

const asked = JSON.parse(readFileSync(0, 'utf8'));
process.stdout.write(JSON.stringify(asked.map(read)));
