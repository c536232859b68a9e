-- Which features have moved, by how much, and is it more than chance?
select
    model,
    feature,
    feature_type,
    round(psi::numeric, 3) as psi,
    round(psi_excess::numeric, 3) as psi_excess,
    status,
    round(ks::numeric, 3) as ks,
    chi_square_p_value
from headrace.feature_drift
where status in ('moving', 'drifted')
order by psi_excess desc;
