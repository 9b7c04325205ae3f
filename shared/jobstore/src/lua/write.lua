-- Writes a job's record whole, if the rule lets it.
-- KEYS: head, items, stored, failed, usage
-- ARGV: rule (create | restore | finish), run, final (0|1), total, doc, names, started_at or '', ttl ms,
--       then for each item that is not pending: index, kind (r | y | s | f), value
-- Answers {1} when written; {0, its run, 1 when that has ended} when what is there counts.
local there = redis.call('HMGET', KEYS[1], 'run', 'final')
local run = tonumber(ARGV[2])
if there[1] then
  local other = tonumber(there[1])
  if other > run or (other == run and ARGV[1] ~= 'finish') then
    return {0, other, tonumber(there[2] or 0)}
  end
end
redis.call('DEL', KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5])
redis.call('HSET', KEYS[1], 'run', run, 'final', ARGV[3], 'total', ARGV[4], 'doc', ARGV[5], 'names', ARGV[6])
-- Only who makes a record first knows that nobody has begun to end its run.
if ARGV[1] == 'create' then redis.call('HSET', KEYS[1], 'open', 1) end
if ARGV[7] ~= '' then redis.call('HSET', KEYS[1], 'started_at', ARGV[7]) end
redis.call('PEXPIRE', KEYS[1], ARGV[8])
if #ARGV == 8 then return {1} end
for i = 9, #ARGV, 3 do
  redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 2])
  if ARGV[i + 1] == 's' then redis.call('SADD', KEYS[3], ARGV[i]) end
  if ARGV[i + 1] == 'f' then redis.call('SADD', KEYS[4], ARGV[i]) end
end
for i = 2, 4 do redis.call('PEXPIRE', KEYS[i], ARGV[8]) end
return {1}
