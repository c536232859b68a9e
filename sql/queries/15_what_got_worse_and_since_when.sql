-- Which segment or endpoint got worse, since when, and by how much?
select distinct on (model, dimension, slice)
    model,
    dimension,
    slice,
    day as since,
    accuracy_before,
    accuracy_since,
    labels_since,
    drop_z
from headrace.slice_performance
where drop_z is not null
order by model asc, dimension asc, slice asc, drop_z desc;
