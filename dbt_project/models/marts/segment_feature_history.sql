-- What was known of a segment at any past moment: labels of the 30 days before.
-- Labels count from the end of the minute in which they became known, so that no prediction sees its
-- own, nor what was not known yet; until the end of the minute in which they were revised or taken
-- back, and for 30 days. A segment without any left has a row of nulls.
-- grain: end of a minute at which something began or ceased to count.
-- key: (model, segment, event_timestamp).
-- lateness: any; late feedback counts from the minute of its event_time.
with facts as (
    {{ segment_facts() }}
),

{{ feature_history(
    'segment', '1 minute',
    pane_start('1 minute', 'clock.event_clock') ~ " + interval '1 minute'",
    of=['labels', 'positives', 'positive_rate']
) }}
