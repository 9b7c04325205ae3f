-- Notes when the first worker of a run began. KEYS: head   ARGV: run, at
local head = redis.call('HMGET', KEYS[1], 'run', 'final')
if not head[1] then return 'missing' end
local run = tonumber(head[1])
if run < tonumber(ARGV[1]) then return 'missing' end
if run > tonumber(ARGV[1]) or head[2] == '1' then return 'over' end
if redis.call('HSETNX', KEYS[1], 'started_at', ARGV[2]) == 1 then return 'first' end
return 'already'
