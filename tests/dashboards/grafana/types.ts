// The types of @grafana/schema, as JSON spells them: enums as their values, what has a default optional.
import type {
  AnnotationContainer,
  AnnotationQuery,
  AnnotationTarget,
  Dashboard,
  FieldConfig,
  FieldConfigSource,
  Panel,
  RowPanel,
} from './node_modules/@grafana/schema/dist/types/raw/dashboard/x/types.gen';
import type * as bargauge from './node_modules/@grafana/schema/dist/types/raw/composable/bargauge/panelcfg/x/types.gen';
import type * as barchart from './node_modules/@grafana/schema/dist/types/raw/composable/barchart/panelcfg/x/types.gen';
import type * as stat from './node_modules/@grafana/schema/dist/types/raw/composable/stat/panelcfg/x/types.gen';
import type * as table from './node_modules/@grafana/schema/dist/types/raw/composable/table/panelcfg/x/types.gen';
import type * as timeseries from './node_modules/@grafana/schema/dist/types/raw/composable/timeseries/panelcfg/x/types.gen';

type Json<T> = T extends string
  ? `${T}`
  : T extends Array<infer Item>
    ? Array<Json<Item>>
    : T extends object
      ? { [Key in keyof T]: Json<T[Key]> }
      : T;

type Some<T> =
  T extends Array<infer Item>
    ? Array<Some<Item>>
    : T extends object
      ? { [Key in keyof T]?: Some<T[Key]> }
      : T;

interface SqlTarget {
  refId: string;
  datasource: { type: string; uid: string };
  editorMode: 'code';
  format: 'table' | 'time_series';
  rawQuery: boolean;
  rawSql: string;
}

type Of<Type extends string, Options, Custom> = Omit<
  Panel,
  'type' | 'options' | 'fieldConfig' | 'targets'
> & {
  type: Type;
  targets: SqlTarget[];
  options: Some<Options>;
  fieldConfig: Omit<FieldConfigSource, 'defaults'> & {
    defaults: Omit<FieldConfig, 'custom'> & { custom?: Some<Custom> };
  };
};

type AnyPanel =
  | Of<'bargauge', bargauge.Options, {}>
  | Of<'barchart', barchart.Options, barchart.FieldConfig>
  | Of<'stat', stat.Options, {}>
  | Of<'table', table.Options, table.FieldConfig>
  | Of<'timeseries', timeseries.Options, timeseries.FieldConfig>
  | RowPanel;

export type Checked = Json<
  Omit<Dashboard, 'annotations' | 'panels' | 'id'> & {
    id: null;
    panels: AnyPanel[];
    annotations: { list: Array<Omit<AnnotationQuery, 'target'> & { target: AnnotationTarget & SqlTarget }> };
  }
>;
