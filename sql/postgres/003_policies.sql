-- Policies: thresholds of the views, and how feedback becomes a label. Changing one needs no
-- deployment; the views follow at once. The defaults are in sql/policies.csv and
-- sql/label_policies.csv.

-- grain: one policy that exists.  key: policy.
-- kind: number, a range of numbers (0..0.5), interval, text, windows, shares, or the words that it
-- may be (on|off).
create table if not exists control.policy_kinds (
    policy text primary key,
    kind text not null,
    default_value text not null,
    description text not null
);

-- Remove the constraint of an earlier version, which had no policies of words.
alter table control.policy_kinds drop constraint if exists policy_kinds_kind_check;

-- grain: one threshold of one model.  key: (model, policy).
-- model '*' holds the default; a row with the model's own name overrides it.
create table if not exists control.policies (
    model text not null,
    policy text not null references control.policy_kinds,
    value text not null,
    updated_at timestamptz not null default clock_timestamp(),
    primary key (model, policy)
);

-- Refuses a value that a view could not cast.
create or replace function control.check_policy() returns trigger
language plpgsql as $$
declare
    wanted text := (select kind from control.policy_kinds where policy = new.policy);
    wrong text;
begin
    if wanted = 'number' and not (new.value ~ '^-?[0-9]{1,15}(\.[0-9]{1,15})?$') then
        raise exception 'policy %: must be a number, got %', new.policy, new.value
        using errcode = 'check_violation';
    elsif wanted ~ '^[0-9.]+[.][.][0-9.]+$' and not coalesce(
        case when new.value ~ '^[0-9]{1,15}(\.[0-9]{1,15})?$' then
            new.value::numeric between split_part(wanted, '..', 1)::numeric
            and split_part(wanted, '..', 2)::numeric
        end, false
    ) then
        raise exception 'policy %: must be a number from % to %, got %', new.policy,
            split_part(wanted, '..', 1), split_part(wanted, '..', 2), new.value
        using errcode = 'check_violation';
    elsif wanted = 'windows' and new.value != '' then
        select
            case
                when bool_or(not is_window) then 'got ' || new.value
                when max(hours) > 9600 then 'up to 400 days, got ' || new.value
                when count(*) > count(distinct name) then 'each by another name, got ' || new.value
            end
        into wrong
        from (
            select
                is_window,
                btrim(split_part(item, '=', 1)) as name,
                case when is_window then
                    extract(epoch from btrim(split_part(item, '=', 2))::interval) / 3600
                end as hours
            from (
                select
                    item,
                    item ~ '^ *[^\s=0-9][^\s=]{0,63} *= *[1-9][0-9]{0,3} (hour|day)s? *$'
                        as is_window
                from unnest(string_to_array(new.value, ',')) as items (item)
            ) as read
        ) as windows;
        if wrong is not null then
            raise exception 'policy %: must be windows such as ''season=120 days, quarter=91 days'', %',
                new.policy, wrong using errcode = 'check_violation';
        end if;
    elsif wanted = 'shares' and new.value != '' then
        if
            not new.value ~ '^ *0?[.][0-9]{1,9} *(, *0?[.][0-9]{1,9} *)*$'
            or exists (
                select from (
                    select share, lag(share, 1, 0::numeric) over (order by place) as earlier
                    from unnest(string_to_array(new.value, ',')::numeric[])
                        with ordinality as shares (share, place)
                ) as steps
                where share <= earlier
            )
        then
            raise exception
                'policy %: must be rising shares such as ''0.01, 0.1, 0.5'', above 0 and below 1, got %',
                new.policy, new.value using errcode = 'check_violation';
        end if;
    elsif wanted ~ '[|]' and new.value != all(string_to_array(wanted, '|')) then
        raise exception 'policy %: must be one of %, got %',
            new.policy, replace(wanted, '|', ', '), new.value
        using errcode = 'check_violation';
    elsif wanted = 'interval' then
        begin
            if not new.value::interval between interval '0' and interval '100 years' then
                raise exception 'out of range' using errcode = 'invalid_datetime_format';
            end if;
        exception when others then
            raise exception 'policy %: must be an interval such as ''1 day'', up to 100 years, got %',
                new.policy, new.value using errcode = 'check_violation';
        end;
    end if;
    return new;
end
$$;

create or replace trigger check_policy before insert or update on control.policies
for each row execute function control.check_policy();

-- grain: how one kind of feedback on one model becomes a label.  key: (model, kind).
-- model '*' holds the default; a row with the model's own name overrides it.
--   wins      which of several feedback events of this kind counts
--   priority  among several kinds the one of the highest priority counts, then the latest; among
--             rewards of one priority those of people before those of a system
--   weight    reward of a value of 1, or of a right prediction where there is no value
create table if not exists control.label_policies (
    model text not null,
    kind text not null check (kind in (
        'rating', 'thumbs', 'click', 'dwell', 'purchase', 'conversion', 'correction',
        'label'
    )),
    wins text not null default 'last',
    priority integer not null default 0,
    weight double precision not null default 1 check (abs(weight) <= 1e9),
    primary key (model, kind)
);

alter table control.label_policies
drop constraint if exists label_policies_wins_check,
add constraint label_policies_wins_check
check (wins in ('first', 'last', 'sum', 'max', 'majority'));

-- Labels are recomputed when they change, and not while a batch still applies the old rules.
create or replace trigger a_turn
after insert or update or delete on control.policies
for each statement execute function events.take_turn();
create or replace trigger a_turn
after insert or update or delete on control.label_policies
for each statement execute function events.take_turn();
