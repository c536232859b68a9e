{#-
  The digest of a pane says what its stored table was made from. dbt rebuilds the table when it
  changes.
-#}

{#-
  The digest of a pane's configuration and of the tables that drive it, by their oids: a rebuilt
  table below changes the digest of the panes above it.
-#}
{% macro pane_digest(parts, drivers) -%}
    {%- set known = [] -%}
    {%- for part in parts -%}
        {#- dbt gives a mapping in one order or another. -#}
        {%- do known.append(part | dictsort if part is mapping else part) -%}
    {%- endfor -%}
    {%- for driver in drivers | sort -%}
        {%- do known.append(run_query("select '" ~ driver ~ "'::regclass::oid")[0][0] | string) -%}
    {%- endfor -%}
    {{ return('pane ' ~ local_md5(known | string)) }}
{%- endmacro %}

{#- The digest that the stored table was made with; none where there is none. -#}
{% macro pane_digested() -%}
    {%- set rows = run_query(
        "select digest from control.pane_digests where pane = '"
        ~ this.schema ~ "." ~ this.identifier ~ "'"
    ).rows -%}
    {{ return(rows[0][0] if rows else none) }}
{%- endmacro %}

{#-
  SQL without the name of the database, for stored functions: they then work in a copy of it. A quote
  that opens the next name is part of what is replaced, so a schema named as the database stays.
-#}
{% macro without_database(sql) -%}
    {{ return(sql | replace(adapter.quote(target.database) ~ '."', '"')) }}
{%- endmacro %}
