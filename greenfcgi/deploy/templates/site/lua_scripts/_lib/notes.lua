-- The notes in the database. A file or a folder whose name begins with an underscore has no URL.

local sql = require "greenfcgi.sql"

local M = {}
local db

-- With errors = "raise", what fails is an error: a page 500, and the reason in the log.
function M.open(url)
    db = assert(sql.connect(url, { errors = "raise" }))
    db:execute("create table if not exists notes (id integer primary key, text text not null, time integer not null)")
end

function M.add(text)
    db:execute("insert into notes (text, time) values (?, ?)", text, os.time())
end

-- The latest ones, each {id, text, time}, the last one first.
function M.latest(number)
    return db:query("select * from notes order by id desc limit ?", number)
end

return M
