function main(env, con)
  con:header("Content-Type", "text/html; charset=utf-8")
  con:puts("<!DOCTYPE html>\n<title>Stock</title>\n<table>\n")
  con:puts("<tr><th>No.</th><th>Name</th><th>Left</th><th>Price</th></tr>\n")
  for no = 1, 50 do
    local price = string.format("%d.%02d", no * 37 % 100, no * 59 % 100)
    con:puts("<tr><td>" .. no .. "</td><td>Part " .. no .. "</td><td>" .. no * 7 .. "</td><td>" .. price .. "</td></tr>\n")
  end
  con:puts("</table>\n")
end
