{#- The standard normal distribution. -#}

{#-
  P(Z > x) of a standard normal Z, for a double x in [1e-20, 37]: a ratio of polynomials (Hart 1968,
  algorithm 5666, after West 2005). Measured: absolute error < 2e-16; relative error < 1e-10 up
  to x = 5, < 1e-8 up to 7, < 1e-5 beyond.
-#}
{% macro normal_upper_tail(x) -%}
    {{ headrace.exp_of('-' ~ x ~ ' * ' ~ x ~ ' / 2') }} * ({{ headrace.polynomial(x, [
        '0.0352624965998911', '0.700383064443688', '6.37396220353165', '33.912866078383',
        '112.079291497871', '221.213596169931', '220.206867912376',
    ]) }}) / ({{ headrace.polynomial(x, [
        '0.0883883476483184', '1.75566716318264', '16.064177579207', '86.7807322029461',
        '296.564248779674', '637.333633378831', '793.826512519948', '440.413735824752',
    ]) }})
{%- endmacro %}

{#- P(Z <= z); errors as in normal_upper_tail, exactly 0 or 1 where |z| > 37. -#}
{% macro normal_cdf(z) -%}
    {%- set z = '(' ~ z ~ ')::double precision' -%}
    case
        when abs({{ z }}) < 0.00000000000000000001 then 0.5
        when abs({{ z }}) <= 37 then
            case when {{ z }} > 0 then 1 else 0 end
            + case when {{ z }} > 0 then -1 else 1 end
            * {{ headrace.normal_upper_tail('abs(' ~ z ~ ')') }}
        when {{ z }} < 0 then 0
        when {{ z }} <= 'infinity'::double precision then 1
    end
{%- endmacro %}

{#- P(|Z| >= |z|): the two-sided p-value of the statistic z. -#}
{% macro normal_p_value(z) -%}
    {%- set distance = 'abs((' ~ z ~ ')::double precision)' -%}
    case
        when {{ distance }} < 0.00000000000000000001 then 1
        when {{ distance }} <= 37
            then 2 * {{ headrace.normal_upper_tail(distance) }}
        when {{ distance }} <= 'infinity'::double precision then 0
    end
{%- endmacro %}

{#-
  Half the width of a two-sided interval in standard errors; confidence is 0.90, 0.95, 0.99 or 0.999.
-#}
{% macro z_of(confidence) -%}
    {%- set known = {
        0.90: '1.6448536269514722', 0.95: '1.959963984540054', 0.99: '2.5758293035489004',
        0.999: '3.2905267314918945'
    } -%}
    {%- if confidence not in known -%}
        {{ exceptions.raise_compiler_error(
            'confidence: 0.90, 0.95, 0.99 or 0.999 expected, got ' ~ confidence
        ) }}
    {%- endif -%}
    {{ known[confidence] }}
{%- endmacro %}

{#-
  A standard normal number about as far out as Student's t is of these degrees of freedom, of its
  sign (Wallace 1959). Measured: where the upper tail of t is 0.05, 0.005 and 0.0005, that of the
  normal number is 1.15, 1.84 and 3.3 times as much for 1 degree, 1.01, 1.10 and 1.27 times for 3,
  1.00, 1.01 and 1.02 times for 10.
-#}
{% macro student_z(t, degrees) -%}
    {%- set t = '(' ~ t ~ ')::double precision' -%}
    {%- set k = '(' ~ degrees ~ ')::double precision' -%}
    case when {{ k }} > 0 then
        case when {{ t }} < 0 then -1 else 1 end
        * (8 * {{ k }} + 1) / (8 * {{ k }} + 3)
        * sqrt({{ k }} * ln(1 + {{ headrace.bounded(t) }} * {{ headrace.bounded(t) }} / nullif({{ k }}, 0)))
    end
{%- endmacro %}
