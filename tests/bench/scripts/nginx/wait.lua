-- A hello, after as many seconds as the query string says.
local seconds = tonumber(ngx.var.query_string)
if seconds then
  ngx.sleep(seconds)
end
ngx.header.content_type = "text/html"
ngx.print("Hello, world!\n")
